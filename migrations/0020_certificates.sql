-- A credential is a secret or a certificate; of a certificate, secret_sha256 is the SHA-256 of its DER.
ALTER TABLE credential
    ADD COLUMN kind text NOT NULL DEFAULT 'secret' CHECK (kind IN ('secret', 'certificate')),
    ADD COLUMN expires_at timestamptz;
-- A certificate is one device's.
CREATE UNIQUE INDEX credential_certificate ON credential (secret_sha256)
    WHERE kind = 'certificate' AND revoked_at IS NULL;
