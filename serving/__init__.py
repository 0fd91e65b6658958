"""Serving: exports finished runs to one folder, scores requests with it, and answers them over HTTP."""
