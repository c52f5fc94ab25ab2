-- Everything here follows from the log and goes with its segments; whoever changes it raises VERSION in database.rs.

-- How far the log was read, and of which spool. `clean`: closed in order, so nothing is to be suspected.
CREATE TABLE known (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    spool BLOB NOT NULL, segment INTEGER NOT NULL, "offset" INTEGER NOT NULL, position INTEGER NOT NULL, clean INTEGER NOT NULL
);

-- The segments that were read, and the new positions in them. A number may come twice, in a spool that was restored; the salt
-- does not.
CREATE TABLE segment (number INTEGER PRIMARY KEY, salt INTEGER NOT NULL, first INTEGER, last INTEGER);

-- Terms lie in runs, each sorted and written at once: keys at random places of one large tree cost a page each.
-- A search asks every run, which is one probe.
CREATE TABLE run (run INTEGER PRIMARY KEY, segment INTEGER NOT NULL, last INTEGER NOT NULL);
CREATE TABLE term (run INTEGER, digest INTEGER, position INTEGER, PRIMARY KEY (run, digest, position)) WITHOUT ROWID;

-- Where pushes lie: frames with new ones, and those that were written again.
CREATE TABLE frame (
    first INTEGER PRIMARY KEY, last INTEGER NOT NULL, segment INTEGER NOT NULL, "offset" INTEGER NOT NULL,
    earliest_ms INTEGER NOT NULL, latest_ms INTEGER NOT NULL
);
CREATE TABLE carried (
    position INTEGER PRIMARY KEY, segment INTEGER NOT NULL, "offset" INTEGER NOT NULL, received_at_ms INTEGER NOT NULL
);

-- Which frames tell of a lane's deliveries; what they tell is read there.
CREATE TABLE span (
    segment INTEGER, first INTEGER, lane INTEGER, "offset" INTEGER, last INTEGER NOT NULL,
    PRIMARY KEY (segment, first, lane, "offset")
) WITHOUT ROWID;

-- The state of today.
-- `next`: what the lane had not read at the newest checkpoint, or when it was registered. A temporary lane has an errand: its
-- sink, the first position that it does not read, and what it is for.
CREATE TABLE lane (
    lane INTEGER PRIMARY KEY, name TEXT NOT NULL, next INTEGER NOT NULL, began INTEGER NOT NULL,
    sink TEXT, until INTEGER, facts BLOB
);
-- What was set aside of a lane since the newest checkpoint: behind `next`, and another lane's business.
CREATE TABLE aside (lane INTEGER, first INTEGER, until INTEGER NOT NULL, PRIMARY KEY (lane, first)) WITHOUT ROWID;
CREATE TABLE dead (
    lane INTEGER, position INTEGER, died_at_ms INTEGER NOT NULL, attempts INTEGER NOT NULL, reason TEXT NOT NULL,
    segment INTEGER NOT NULL, "offset" INTEGER NOT NULL, PRIMARY KEY (lane, position)
) WITHOUT ROWID;
CREATE TABLE quarantine (
    position INTEGER PRIMARY KEY, received_at_ms INTEGER NOT NULL, bytes INTEGER NOT NULL, reason TEXT NOT NULL,
    segment INTEGER NOT NULL, "offset" INTEGER NOT NULL
);
