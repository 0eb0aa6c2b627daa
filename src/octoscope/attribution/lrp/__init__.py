"""Relevance propagated backwards through transformers."""
