-- A GTIN is the same number with and without its leading zeros.
ALTER TABLE sku DROP CONSTRAINT sku_gtin_key;
CREATE UNIQUE INDEX sku_gtin ON sku (lpad(gtin, 14, '0'));
