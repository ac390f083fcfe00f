-- The log between two backups: what every turn wrote, kept here until it lies in the log's folder.
CREATE TABLE log_outbox (
    turn     INTEGER NOT NULL PRIMARY KEY, -- counted from 1 without gaps
    previous BLOB    NOT NULL, -- hash of the record before
    record   BLOB    NOT NULL
);

-- Where the log is. The first hash is drawn, so that no other hub's log continues this one.
CREATE TABLE log_position (
    one           INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    turn          INTEGER NOT NULL, -- the last one
    hash          BLOB    NOT NULL, -- of its record
    waiting_bytes INTEGER NOT NULL, -- in the outbox
    archived      INTEGER NOT NULL, -- turns up to here lie in the folder, or in a backup only
    whole_from    INTEGER NOT NULL, -- the folder holds every turn from here to there
    segment       TEXT    NOT NULL, -- the newest file, or empty
    number        INTEGER NOT NULL  -- files of this life, ever
);
INSERT INTO log_position VALUES (1, 0, randomblob(32), 0, 0, 1, '', 0);

-- The last turn in a backup; none in backups made before there was a log.
ALTER TABLE backups ADD COLUMN turn INTEGER;
