"""RQ: a worker whose jobs do not lose recorded samples.

rq worker --worker-class redismetrics.integrations.rq.MetricsWorker
"""

from typing import Any

# Loaded before forking, so that not every job has to import the modules for sending.
import redismetrics.queries.context
import redismetrics.recording.redis_sink  # noqa: F401
from redismetrics.recording.lifecycle import close_at_exit

try:
    from rq import Worker
except ImportError as error:
    from redismetrics.errors import MissingExtra

    raise MissingExtra("RQ's worker needs RQ: pip install 'redismetrics[rq]'") from error


class MetricsWorker(Worker):  # type: ignore[misc]
    """A worker that sends the samples of a job before the job's process ends.

    RQ forks a process for each job and ends it by `os._exit`, often before its first flush. Sending
    takes at most 2 s; what Redis has not confirmed by then is counted as dropped and logged.
    """

    # The arguments differ between versions of RQ.
    def perform_job(self, *args: Any, **kwargs: Any) -> Any:
        """Perform the job in its own process, and close the clients of this process."""
        try:
            return super().perform_job(*args, **kwargs)
        finally:
            close_at_exit()
