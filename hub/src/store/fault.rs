//! Why a statement failed, told in the two words that matter to a caller: away (try again) or broken (a bug).

/// Why the store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It is away, stopping or overloaded: try again.
    #[error("PostgreSQL is away: {0}")]
    Away(String),
    /// It refused the statement, or holds a row that cannot be read: a bug, or a schema of another version.
    #[error("PostgreSQL refused a statement: {0}")]
    Broken(String),
}

impl From<sqlx::Error> for Fault {
    fn from(error: sqlx::Error) -> Self {
        let broken = if let sqlx::Error::Database(database) = &error {
            // Class 57 is operator intervention (shutdown), 53 insufficient resources, 40 rollback, 08 connection.
            let code = database.code();
            code.is_some_and(|code| {
                !["57", "53", "40", "08"].contains(&code.get(..2).unwrap_or(""))
            })
        } else {
            matches!(
                &error,
                sqlx::Error::ColumnDecode { .. }
                    | sqlx::Error::ColumnNotFound(_)
                    | sqlx::Error::Decode(_)
                    | sqlx::Error::Encode(_)
                    | sqlx::Error::RowNotFound
                    | sqlx::Error::TypeNotFound { .. }
            )
        };
        if broken { Self::Broken(error.to_string()) } else { Self::Away(error.to_string()) }
    }
}
