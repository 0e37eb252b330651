CREATE TABLE IF NOT EXISTS items (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    mode TEXT NOT NULL,
    context TEXT NOT NULL,
    question TEXT NOT NULL,
    prompt TEXT NOT NULL,
    completion TEXT NOT NULL,
    num_points INTEGER NOT NULL,
    num_wanted INTEGER NOT NULL,
    num_judged INTEGER NOT NULL DEFAULT 0,
    asked_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS items_waiting ON items (mode, asked_at) WHERE num_judged < num_wanted;
CREATE INDEX IF NOT EXISTS items_by_context ON items (context);

-- A comparison names its two items in the order of their ids; `value` is the share of the win of the first.
-- A rating and a skipped rating have '' as the other; a skip has no value.
CREATE TABLE IF NOT EXISTS judgements (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    rater TEXT NOT NULL,
    item TEXT NOT NULL REFERENCES items (id),
    other TEXT NOT NULL DEFAULT '',
    value REAL,
    made_at REAL NOT NULL,
    UNIQUE (rater, item, other)
);
CREATE INDEX IF NOT EXISTS judgements_by_item ON judgements (item);
CREATE INDEX IF NOT EXISTS judgements_by_other ON judgements (other);
