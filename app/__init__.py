"""Joins the parts into the application; the only package that knows all the others."""
