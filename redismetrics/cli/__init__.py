"""
The command line, built with typer and rich (the extra `cli`). All human-readable output is made
here.

    main.py       the application: all commands, error messages, exit status
    options.py    options that commands share, parsing of values, the client of a command
    printing.py   tables, bars and sparklines for people, tab-separated lines for pipes, JSON
    record.py     record, increment, gauge, histogram
    measure.py    measure
    run_program.py  run; startup/ is the folder that it prepends to PYTHONPATH
    query.py      query, time-series, rollup, get-metrics
    heat_map.py   heat-map
    runs.py       runs
    catalog.py    list, tag-values, stats
    delete.py     delete, clear
    tail.py       subscribe, tail
    services.py   worker, export, serve
    progress.py   the progress bar of worker --once
    embedded.py   embedded status, embedded stop
    copy.py, doctor.py (also cardinality), demo.py with demo_run.py, which runs it
    top/          top: screen, poller, board, view, keyboard
"""
