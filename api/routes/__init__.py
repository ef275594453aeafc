"""One file for each group of routes; `api.app` puts them together."""
