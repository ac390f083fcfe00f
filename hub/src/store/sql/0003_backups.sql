-- Backups that were made and proved, so that pages and monitoring know how old the newest one is.
CREATE TABLE backups (
    number  INTEGER NOT NULL PRIMARY KEY,
    at_ms   INTEGER NOT NULL,
    file    TEXT    NOT NULL,
    bytes   INTEGER NOT NULL,
    took_ms INTEGER NOT NULL,
    entries INTEGER NOT NULL -- of all feeds, pruned ones included
);
