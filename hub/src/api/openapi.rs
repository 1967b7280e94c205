//! The OpenAPI document: what utoipa gathers from the handlers, completed from the route table.
//!
//! Permissions, the token, problems and `min_position` hold for whole groups of routes, so they are added here once rather
//! than at every handler.

use serde_json::{Value, json};
use utoipa::OpenApi;

use super::{
    permission::Permission,
    routes::{Operations, ROUTES},
};

/// The document, pretty, in a stable order.
pub fn openapi_json() -> String {
    let mut document = serde_json::to_value(Operations::openapi()).unwrap_or_default();
    document["info"] = json!({
        "title": "Stockfold",
        "version": "1",
        "description": "Real-time inventory: master data, stock, movements and why they are so. Rules that a schema cannot hold are in docs/specs/api.md.",
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    });
    document["components"]["securitySchemes"] = json!({
        "token": { "type": "http", "scheme": "bearer" },
        "device": { "type": "http", "scheme": "basic", "description": "A device's id and its secret" },
        "session": { "type": "apiKey", "in": "cookie", "name": super::auth::SESSION_COOKIE },
    });
    for route in ROUTES {
        let method = route.method.to_ascii_lowercase();
        let operation = &mut document["paths"][route.path][method.as_str()];
        if operation.is_object() {
            complete(operation, route.path, route.method, route.permission);
        }
    }
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

/// A name of its own for each operation: `get_facilities_slots_by_id`.
fn operation_id(path: &str, method: &str) -> String {
    let path = path.strip_prefix("/api/v1").unwrap_or(path);
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let mut name = method.to_ascii_lowercase();
    for (index, part) in parts.iter().enumerate() {
        let parameter = part.starts_with('{');
        if parameter && index + 1 == parts.len() {
            name.push_str("_by_");
            name.push_str(part.trim_matches(['{', '}']));
        } else if !parameter {
            name.push('_');
            name.push_str(&part.replace('.', "_"));
        }
    }
    name
}

fn complete(operation: &mut Value, path: &str, method: &str, permission: Permission) {
    operation["operationId"] = json!(operation_id(path, method));
    operation["x-permission"] = json!(permission.as_str());
    if permission == Permission::Open {
        return;
    }
    operation["security"] = if permission == Permission::DeviceSelf {
        json!([{ "device": [] }])
    } else {
        json!([{ "token": [] }, { "session": [] }])
    };
    operation["responses"]["default"] = json!({
        "description": "A problem",
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    });
    if method == "GET" && path.starts_with("/api/") {
        let parameter = json!({
            "name": "min_position", "in": "query", "required": false, "schema": { "type": "string" },
            "description": "Wait up to 1 s until this position is committed, such as 1-0-81920.",
        });
        match operation["parameters"].as_array_mut() {
            Some(parameters) => parameters.push(parameter),
            None => operation["parameters"] = json!([parameter]),
        }
    }
}
