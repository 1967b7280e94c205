//! The route table: every path and method the hub answers, its permission and its handler.
//!
//! One macro makes three things of it, so they cannot disagree: the table the guard asks, the registration, and the list of
//! operations in the OpenAPI document.

use actix_web::{http::Method, web};

use super::{
    accounts, buses, calibration, certificates, commands, device_events, devices, downlink,
    explain, master, outside, page, permission::Permission, profiles, push, readings, removal,
    scanners, stock, tags,
};
use crate::feed::live;

/// One path and method.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    /// Method.
    pub method: &'static str,
    /// Path pattern.
    pub path: &'static str,
    /// What a caller needs.
    pub permission: Permission,
}

macro_rules! routes {
    ($($method:ident $path:literal $permission:ident $module:ident :: $handler:ident)*) => {
        /// Every route.
        pub const ROUTES: &[Route] = &[$(Route {
            method: stringify!($method),
            path: $path,
            permission: Permission::$permission,
        }),*];

        /// Registers every route.
        pub fn register(config: &mut web::ServiceConfig) {
            $(config.route($path, web::method(Method::$method).to($module::$handler));)*
        }

        /// Every operation, as utoipa gathers it.
        #[derive(utoipa::OpenApi)]
        #[openapi(
            paths($($module::$handler),*),
            components(schemas(super::problem::ProblemBody<'_>, crate::feed::message::Message<'_>))
        )]
        pub struct Operations;
    };
}

routes! {
    GET  "/" Open page::index
    GET  "/style.css" Open page::style
    GET  "/app.js" Open page::script
    GET  "/healthz" Open outside::healthz
    GET  "/readyz" Open outside::readyz
    GET  "/signin" Open outside::sign_in
    GET  "/metrics" MetricsRead outside::metrics

    GET  "/api/v1/facilities" MasterRead master::list_facilities
    POST "/api/v1/facilities" MasterWrite master::post_facility
    GET  "/api/v1/facilities/{facility}" MasterRead master::get_facility
    GET  "/api/v1/facilities/{facility}/zones" MasterRead master::list_zones
    POST "/api/v1/facilities/{facility}/zones" MasterWrite master::post_zone
    GET  "/api/v1/facilities/{facility}/zones/{id}" MasterRead master::get_zone
    DELETE "/api/v1/facilities/{facility}/zones/{id}" MasterWrite removal::zone
    GET  "/api/v1/facilities/{facility}/shelves" MasterRead master::list_shelves
    POST "/api/v1/facilities/{facility}/shelves" MasterWrite master::post_shelf
    GET  "/api/v1/facilities/{facility}/shelves/{id}" MasterRead master::get_shelf
    DELETE "/api/v1/facilities/{facility}/shelves/{id}" MasterWrite removal::shelf
    GET  "/api/v1/facilities/{facility}/slots" MasterRead master::list_slots
    POST "/api/v1/facilities/{facility}/slots" MasterWrite master::post_slot
    GET  "/api/v1/facilities/{facility}/slots/{id}" MasterRead master::get_slot
    DELETE "/api/v1/facilities/{facility}/slots/{id}" MasterWrite removal::slot
    GET  "/api/v1/facilities/{facility}/planogram" MasterRead master::get_planogram
    PUT  "/api/v1/facilities/{facility}/planogram" MasterWrite master::put_planogram
    DELETE "/api/v1/facilities/{facility}/planogram/{slot}/{sku}" MasterWrite removal::line
    GET  "/api/v1/skus" MasterRead master::list_skus
    POST "/api/v1/skus" MasterWrite master::post_sku
    GET  "/api/v1/skus/{id}" MasterRead master::get_sku
    DELETE "/api/v1/skus/{id}" MasterWrite removal::sku
    POST "/api/v1/import" MasterWrite master::import
    GET  "/api/v1/profiles" MasterRead profiles::list
    POST "/api/v1/profiles" MasterWrite profiles::post
    GET  "/api/v1/profiles/{hash}" MasterRead profiles::get

    GET  "/api/v1/devices" DevicesRead devices::list
    POST "/api/v1/devices" DevicesWrite devices::post
    GET  "/api/v1/devices/seen" DevicesRead devices::seen
    GET  "/api/v1/facilities/{facility}/device-events" DevicesRead device_events::list
    GET  "/api/v1/devices/{device}" DevicesRead devices::get
    DELETE "/api/v1/devices/{device}" DevicesWrite removal::device
    POST "/api/v1/devices/{device}/revoke" DevicesWrite devices::revoke
    POST "/api/v1/devices/{device}/enable" DevicesWrite devices::enable
    GET  "/api/v1/devices/{device}/readings" DevicesRead readings::list
    POST "/api/v1/devices/{device}/readings/{stream}" DeviceSelf push::post
    GET  "/api/v1/devices/{device}/scanner" DevicesRead scanners::get
    PUT  "/api/v1/devices/{device}/scanner" DevicesWrite scanners::put
    GET  "/api/v1/devices/{device}/credentials" DevicesRead devices::list_credentials
    POST "/api/v1/devices/{device}/credentials" DevicesWrite devices::post_credential
    POST "/api/v1/devices/{device}/certificates" DevicesWrite certificates::post
    DELETE "/api/v1/devices/{device}/credentials/{id}" DevicesWrite devices::delete_credential

    GET  "/api/v1/buses" DevicesRead buses::list
    POST "/api/v1/buses" DevicesWrite buses::post
    GET  "/api/v1/buses/{bus}" DevicesRead buses::get
    DELETE "/api/v1/buses/{bus}" DevicesWrite buses::delete
    PUT  "/api/v1/devices/{device}/bus" DevicesWrite buses::put_unit
    DELETE "/api/v1/devices/{device}/bus" DevicesWrite buses::delete_unit
    POST "/api/v1/devices/{device}/read/{stream}" DevicesWrite buses::read_now
    POST "/api/v1/devices/{device}/commands/{command}" DevicesWrite downlink::post
    GET  "/api/v1/devices/{device}/commands" DevicesRead downlink::list

    POST "/api/v1/devices/{device}/cells/{channel}/calibration" DevicesWrite calibration::begin
    GET  "/api/v1/devices/{device}/cells/{channel}/calibration" DevicesRead calibration::get
    DELETE "/api/v1/devices/{device}/cells/{channel}/calibration" DevicesWrite calibration::delete
    POST "/api/v1/devices/{device}/cells/{channel}/calibration/empty" DevicesWrite calibration::empty
    POST "/api/v1/devices/{device}/cells/{channel}/calibration/weight" DevicesWrite calibration::weight
    POST "/api/v1/devices/{device}/cells/{channel}/calibration/verify" DevicesWrite calibration::verify
    POST "/api/v1/devices/{device}/cells/{channel}/calibration/apply" DevicesWrite calibration::apply
    GET  "/api/v1/devices/{device}/cells/{channel}/calibrations" DevicesRead calibration::list

    GET  "/api/v1/stock" StockRead stock::list
    GET  "/api/v1/movements" StockRead stock::movements
    GET  "/api/v1/movements/{id}" StockRead stock::movement
    GET  "/api/v1/movements/{id}/explain" StockRead explain::explain
    GET  "/api/v1/facilities/{facility}/tags" StockRead tags::list
    GET  "/api/v1/facilities/{facility}/tag-events" StockRead tags::of_facility
    GET  "/api/v1/tags/{tag}" StockRead tags::get
    GET  "/api/v1/tags/{tag}/events" StockRead tags::history
    GET  "/api/v1/tag-events/{id}/explain" StockRead tags::explain
    GET  "/api/v1/discrepancies" StockRead accounts::discrepancies
    GET  "/api/v1/quarantine" StockRead accounts::quarantine
    GET  "/api/v1/ledger" DevicesRead accounts::ledger
    GET  "/api/v1/readings/refused" DevicesRead readings::refused
    GET  "/api/v1/live" StockRead live::live

    POST "/api/v1/facilities/{facility}/receipts" StockChange commands::receipt
    POST "/api/v1/facilities/{facility}/picks" StockChange commands::pick
    POST "/api/v1/facilities/{facility}/moves" StockChange commands::relocate
    POST "/api/v1/facilities/{facility}/counts" StockChange commands::count
    POST "/api/v1/facilities/{facility}/adjustments" StockChange commands::adjustment
    POST "/api/v1/facilities/{facility}/devices/{device}/tare" StockChange commands::tare
    POST "/api/v1/facilities/{facility}/slots/{slot}/zero" StockChange commands::zero
    POST "/api/v1/facilities/{facility}/cycle-counts" StockChange commands::cycle_count
    POST "/api/v1/facilities/{facility}/tags/{tag}/gone" StockChange commands::tag_gone
}
