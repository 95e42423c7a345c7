"""Live samples over pub/sub: catch up after a lost connection, deliver through a bounded queue."""
