"""Rows to words, tables, figures and pages."""
