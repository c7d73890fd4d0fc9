"""Holds the script that Streamlit runs, alone: its folder is put on the module search path, where our other names must not be."""
