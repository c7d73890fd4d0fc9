# The app without torch: recognition and embedding run on the CPU; the speech LLM is a service of its own (compose.yaml).
FROM python:3.11-slim

WORKDIR /askaloud
COPY pyproject.toml constraints.txt README.md LICENSE streamlit_app.py ./
COPY app ./app
COPY generator ./generator
COPY retriever ./retriever
COPY storage ./storage
RUN pip install --no-cache-dir --constraint constraints.txt '.[llm,postgres]' \
 && useradd --create-home --uid 10001 askaloud && mkdir /data && chown askaloud /data

USER askaloud
WORKDIR /home/askaloud
ENV ASKALOUD_HOME=/data PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8501
CMD ["askaloud", "run", "--host", "0.0.0.0", "--no-browser"]
