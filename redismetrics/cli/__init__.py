"""
The command line, with typer and rich: the extra `cli`. Whatever redismetrics shows to a person is shown here.

    main.py       the application: all commands joined, errors, exit status
    options.py    options that commands share, texts to values, the client of one command
    printing.py   tables, bars and sparklines for people, tab-separated lines for pipes, JSON
    recording.py  record, increment, gauge, histogram, measure          asking.py   query ... stats, delete, clear
    streaming.py  subscribe, tail                                       running.py  worker, export, serve, embedded
    demo.py       demo
    top.py        top: its command and its screen          watching.py  what it asks the store, in a thread
    health.py     doctor, cardinality
    board.py      what it shows: rates, order, filter      keyboard.py  keys of a terminal
"""
