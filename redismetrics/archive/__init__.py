"""The archive: closed slots of Redis, kept in PostgreSQL or in Parquet files.

It takes the rollup rows and exact samples of a namespace, and gives tables that SQL can read.
"""
