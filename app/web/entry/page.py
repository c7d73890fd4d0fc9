"""What Streamlit runs for each visit."""

from app.web.frame import show

show()
