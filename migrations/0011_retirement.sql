-- What movements, readings and accounts name by its id is not deleted but retired: it is in no list, and an id may come back.
ALTER TABLE sku ADD COLUMN retired_at timestamptz;
ALTER TABLE device ADD COLUMN retired_at timestamptz;
