"""The page for `streamlit run streamlit_app.py`; `askaloud run` serves the same with the worker and the upload of large files."""

from app.web.frame import show

show()
