"""The archive: closed slots of Redis, kept in PostgreSQL, ClickHouse or Parquet files.

It takes the rollup rows and exact samples of a namespace and turns them into tables for SQL.
"""
