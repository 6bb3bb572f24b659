"""Reports: what a run did, as one offline HTML page with pictures and as JSON with the same figures."""
