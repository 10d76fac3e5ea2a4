"""Surveys that ask people which image they prefer: blinded tasks, a page, a server, and their analysis."""
