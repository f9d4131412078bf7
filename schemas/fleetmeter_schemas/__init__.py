"""The contract between the services: records, codec, topics, table DDL."""
