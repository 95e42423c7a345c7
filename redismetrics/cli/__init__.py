"""
The command line, with typer and rich: the extra `cli`. Whatever redismetrics shows to a person is shown here.

    main.py       the application: all commands, errors, exit status
    options.py    options that commands share, parsing of values, the client of one command
    printing.py   tables, bars and sparklines for people, tab-separated lines for pipes, JSON
    record.py     record, increment, gauge, histogram, measure
    query.py      query, rollup, series, samples, list, stats, delete, clear
    tail.py       subscribe, tail
    services.py   worker, export, serve, embedded
    copy.py, doctor.py, demo.py (with demo_run.py, which runs it)
    top/          top: screen, poller, board, keyboard
"""
