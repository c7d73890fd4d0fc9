"""Networks of answering; torch only, never imported at run time."""
