"""The archive: closed slots of Redis, kept in PostgreSQL or in Parquet files.

In go the rollup rows and exact samples of a namespace, out come tables that SQL can read.
"""
