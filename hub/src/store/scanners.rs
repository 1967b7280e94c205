//! What operators of serial scanners are doing, kept over a restart.

use device_profiles::{
    DeviceId, ScanMode, SlotId,
    codec::scanner::{Context, Doing, mode_of},
};
use sqlx::Row;

use super::{PgStore, fault::Fault};

impl PgStore {
    /// What a scanner begins with. A count that was under way is over: how far it was is not known.
    pub async fn scanner(&self, device: &DeviceId) -> Result<Option<Context>, Fault> {
        let row = sqlx::query("SELECT mode, slot, operator FROM scanner WHERE device = $1")
            .bind(device.as_str())
            .fetch_optional(self.pool())
            .await?;
        let Some(row) = row else { return Ok(None) };
        let mode = match row.try_get::<&str, _>("mode")? {
            "" => Doing::AsProfile,
            name => match mode_of(name) {
                Some(ScanMode::Count) | None => Doing::Unset,
                Some(mode @ (ScanMode::Receive | ScanMode::Pick)) => Doing::Mode(mode),
            },
        };
        let slot: Option<String> = row.try_get("slot")?;
        let slot = slot.and_then(|slot| SlotId::parse(&slot).ok());
        Ok(Some(Context { mode, slot, operator: row.try_get("operator")? }))
    }

    /// Writes down what an operator is doing. False when there is no such device.
    pub async fn set_scanner(&self, device: &DeviceId, context: &Context) -> Result<bool, Fault> {
        let done = sqlx::query(
            "INSERT INTO scanner (device, mode, slot, operator)
             SELECT id, $2, $3, $4 FROM device WHERE id = $1 AND retired_at IS NULL
             ON CONFLICT (device) DO UPDATE
             SET mode = excluded.mode, slot = excluded.slot, operator = excluded.operator, set_at = now()",
        )
        .bind(device.as_str())
        .bind(context.mode.as_str())
        .bind(context.slot.as_ref().map(SlotId::as_str))
        .bind(&context.operator)
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() == 1)
    }
}
