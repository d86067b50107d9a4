-- Who this catalog is: a data directory belongs to one.
CREATE TABLE catalog (
    id TEXT NOT NULL
);
INSERT INTO catalog (id) VALUES (gen_random_uuid()::text);
CREATE TABLE commits (
    sequence       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id             TEXT NOT NULL UNIQUE,
    message        TEXT NOT NULL,
    created_at     BIGINT NOT NULL,
    activated_at   BIGINT,
    finished_at    BIGINT,
    status         TEXT NOT NULL,
    content_hash   TEXT NOT NULL,
    definitions    TEXT NOT NULL,
    plan           TEXT NOT NULL,
    new_identities TEXT NOT NULL,
    error          TEXT
);
CREATE UNIQUE INDEX one_live_commit ON commits (status) WHERE status = 'live';
CREATE UNIQUE INDEX one_building_commit ON commits (status) WHERE status = 'building';
-- A sequence never hands out a number again, not even after its row was deleted.
CREATE TABLE ids (
    id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE
);
CREATE TABLE published_features (
    featureset TEXT NOT NULL,
    id         BIGINT NOT NULL,
    name       TEXT NOT NULL,
    PRIMARY KEY (featureset, id)
);
CREATE TABLE cursors (
    source     TEXT PRIMARY KEY,
    cursor     TEXT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE TABLE events (
    id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_type TEXT NOT NULL,
    severity   TEXT NOT NULL,
    source     TEXT NOT NULL,
    subject    TEXT NOT NULL,
    message    TEXT NOT NULL,
    detail     TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE TABLE run_pages (
    last_sequence BIGINT PRIMARY KEY,
    count         BIGINT NOT NULL,
    forgotten     BIGINT NOT NULL,
    runs          TEXT NOT NULL
);
