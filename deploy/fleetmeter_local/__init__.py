"""Local Kafka, store and services under one command; imports no service code."""
