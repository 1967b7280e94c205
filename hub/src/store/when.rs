//! A time as the API tells it: `timestamptz` in, RFC 3339 out.

use std::borrow::Cow;

use device_profiles::time::format_rfc3339_us;
use serde::{Serialize, Serializer};
use sqlx::{Decode, Encode, Postgres, Type, encode::IsNull, error::BoxDynError, postgres};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        KnownFormat, ObjectBuilder, RefOr, SchemaFormat,
        schema::{Schema, Type as SchemaType},
    },
};

use super::micros::Micros;

/// Microseconds since the Unix epoch that are told as an RFC 3339 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct When(pub i64);

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_rfc3339_us(self.0))
    }
}

impl PartialSchema for When {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::String)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
            .into()
    }
}

impl ToSchema for When {
    fn name() -> Cow<'static, str> {
        "Time".into()
    }
}

impl Type<Postgres> for When {
    fn type_info() -> postgres::PgTypeInfo {
        Micros::type_info()
    }
}

impl Encode<'_, Postgres> for When {
    fn encode_by_ref(
        &self,
        buffer: &mut postgres::PgArgumentBuffer,
    ) -> Result<IsNull, BoxDynError> {
        Micros(self.0).encode_by_ref(buffer)
    }
}

impl Decode<'_, Postgres> for When {
    fn decode(value: postgres::PgValueRef<'_>) -> Result<Self, BoxDynError> {
        Micros::decode(value).map(|micros| Self(micros.0))
    }
}
