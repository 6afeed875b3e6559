#!/bin/sh
# Run once by the image of the compose profile `postgres`: the service's role and database. The role is no superuser,
# because row-level security, which keeps tenants apart, does not bind one.
set -eu
psql --set ON_ERROR_STOP=1 --username "${POSTGRES_USER:-postgres}" --dbname postgres \
  --set password="${LOREBASE_DATABASE_PASSWORD:?set it to the password in LOREBASE_DATABASE_URL}" <<'SQL'
CREATE ROLE lorebase LOGIN PASSWORD :'password';
CREATE DATABASE lorebase OWNER lorebase ENCODING 'UTF8' TEMPLATE template0;
\connect lorebase
CREATE EXTENSION IF NOT EXISTS vector;
SQL
