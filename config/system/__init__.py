"""The state of the system on one page: does the installation live, what is late, failing or given up, what to do."""
