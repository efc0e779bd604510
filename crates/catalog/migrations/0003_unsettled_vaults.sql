-- Vaults whose repository is being made or removed: written before the storage is touched and gone
-- when it is done, so that what a crash leaves there is known without searching for it. A row per
-- place, which is never used twice; no foreign keys, for the vault is not there yet or no longer.

CREATE TABLE unsettled_vaults (
    location TEXT PRIMARY KEY NOT NULL,
    state TEXT NOT NULL,
    body TEXT NOT NULL
);
