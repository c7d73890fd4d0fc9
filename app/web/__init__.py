"""The pages: the only folder that imports streamlit. They show what `app.service.SpokenQA` does and decide nothing themselves."""
