"""Spans of a request: recorded while it runs, kept in SQLite, shown as a waterfall, exported by OTLP."""
