//! What the hub decides about a device's packets: who it is, which topics it may use, and into the journal.
//!
//! A frame is validated by decoding it, and goes into the journal whether or not it decodes: a device that sends garbage gets
//! its acknowledgement, and the garbage is kept with its reason. Refused before the journal are only: unknown devices and
//! topics, a full disk, a full queue.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
};

use actors::{
    bus::Delivered,
    journal::{AckCell, AppendRefusal, Completion, Journal},
    ports::fs::RealFs,
};
use bytes::Bytes;
use device_profiles::{
    Class, decode,
    ids::check_id,
    profile::Codec,
    sparkplug::{Kind as SparkplugKind, ROOT as SPARKPLUG_ROOT, Topic},
};
use fold::{Frame, HubTime, wire};

use crate::{
    calibration::Calibrations,
    directory::{Device, Directory, Unknown},
    downlink::Way,
    mqtt::{
        Accepted, AuthRefusal, Grant, Hello, Inbound, Ingress, PublishRefusal, Refused, Route,
        Settled, TopicAction, TopicRefusal, topic,
    },
    refusals::Refusals,
    sparkplug::{self, Sparkplug},
    tap::Tap,
};

/// Every topic of the hub begins so.
pub const TOPIC_ROOT: &str = "stockfold/v1/";

/// How full the disk is, in steps that matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Space {
    /// Enough.
    Plenty = 0,
    /// Enough, but an alert is due.
    Alert = 1,
    /// Telemetry is refused.
    NoTelemetry = 2,
    /// Everything but control is refused.
    ControlOnly = 3,
}

impl Space {
    /// The step for a disk use, by the configured percentages.
    pub fn of(used_permille: u16, journal: &crate::config::Journal) -> Self {
        let reached = |percent: u16| used_permille >= percent.saturating_mul(10);
        if reached(journal.refuse_percent) {
            Self::ControlOnly
        } else if reached(journal.refuse_telemetry_percent) {
            Self::NoTelemetry
        } else if reached(journal.alert_percent) {
            Self::Alert
        } else {
            Self::Plenty
        }
    }
}

/// What the ingress counts.
#[derive(Debug, Default)]
pub struct IngressStats {
    /// Frames that decoded.
    pub sound: AtomicU64,
    /// Frames that did not; they are journaled and rejected by the fold.
    pub unsound: AtomicU64,
    /// Refused: queue full, the endpoint tries again.
    pub queue_full: AtomicU64,
    /// Refused: disk watermark.
    pub no_space: AtomicU64,
    /// Refused: topic of another device or direction.
    pub not_authorised: AtomicU64,
    /// Refused: no such topic.
    pub unknown_topic: AtomicU64,
    /// Let go: a foreign topic that nothing here reads.
    pub unread: AtomicU64,
}

/// The ingress.
pub struct HubIngress {
    directory: Arc<Directory>,
    journal: Journal<RealFs>,
    tap: Arc<Tap>,
    space: AtomicU8,
    /// Figures.
    pub stats: IngressStats,
    /// What was refused of each device.
    pub refusals: Refusals,
    /// Cells that somebody calibrates.
    pub calibrations: Calibrations,
    /// The host of Sparkplug nodes.
    pub sparkplug: Sparkplug,
}

/// One connection of a device.
struct Caller {
    device: Arc<Device>,
    /// No frame of this connection has come yet.
    first: AtomicBool,
}

impl HubIngress {
    /// An ingress into a journal.
    pub fn new(directory: Arc<Directory>, journal: Journal<RealFs>, tap: Arc<Tap>) -> Self {
        Self {
            directory,
            journal,
            tap,
            space: AtomicU8::new(Space::Plenty as u8),
            stats: IngressStats::default(),
            refusals: Refusals::default(),
            calibrations: Calibrations::default(),
            sparkplug: Sparkplug::default(),
        }
    }

    /// How full the disk is.
    pub fn set_space(&self, space: Space) {
        self.space.store(space as u8, Relaxed);
    }

    /// How full the disk is.
    pub fn space(&self) -> Space {
        match self.space.load(Relaxed) {
            0 => Space::Plenty,
            1 => Space::Alert,
            2 => Space::NoTelemetry,
            _ => Space::ControlOnly,
        }
    }
}

impl HubIngress {
    /// Takes a frame that came over a bus or line. What cannot be taken is the actor's to drop or to offer again.
    pub fn polled(&self, device: &Device, stream: &str, image: Vec<u8>) -> Delivered {
        self.heard(device, stream, &image.into())
    }

    /// Takes a message that a reader sent. One that cannot be taken is offered again by whoever has it.
    pub fn heard(&self, device: &Device, stream: &str, message: &Bytes) -> Delivered {
        if device.is_revoked() {
            return Delivered::Refused;
        }
        match self.take(device, stream, message, false, Completion::None) {
            Ok(()) => Delivered::Taken,
            Err(PublishRefusal::NotAuthorised) => Delivered::Refused,
            Err(
                PublishRefusal::QueueFull | PublishRefusal::Quota | PublishRefusal::Unavailable,
            ) => Delivered::Full,
        }
    }
}

impl Ingress for HubIngress {
    fn authenticate(&self, hello: &Hello<'_>) -> Result<Grant, AuthRefusal> {
        let name = hello.username.unwrap_or(hello.client_id);
        let checked = match hello.peer.certificate {
            // Whoever shows a certificate is who it says; a password beside it is not looked at, so it opens no second door.
            Some(certificate) => self.directory.check_certificate(certificate, hello.username),
            None => self.directory.check(name, hello.password.unwrap_or_default()),
        };
        let refusal = match checked {
            Ok(device) => {
                return Ok(Grant {
                    device: Arc::from(device.id.as_str()),
                    generation: device.generation,
                    context: Arc::new(Caller { device, first: AtomicBool::new(true) })
                        as Arc<dyn Any + Send + Sync>,
                });
            }
            Err(Unknown::NotEnrolled) => AuthRefusal::NotEnrolled,
            Err(Unknown::Disabled) => AuthRefusal::Disabled,
            Err(Unknown::BadCertificate) => AuthRefusal::Certificate,
            Err(Unknown::BadSecret) => AuthRefusal::BadCredentials,
            Err(Unknown::NotReady) => return Err(AuthRefusal::Unavailable),
        };
        self.directory.note(name, hello.peer.address.ip().to_string(), &refusal.to_string());
        Err(refusal)
    }

    fn authorise(
        &self,
        grant: &Grant,
        action: TopicAction,
        name: &str,
    ) -> Result<Route, TopicRefusal> {
        let decided = match authorise(grant.device.as_ref(), action, name) {
            Ok(route) => Ok(route),
            Err(refusal) => self.for_others(grant, action, name).ok_or(refusal),
        };
        match decided {
            Ok(_) => {}
            Err(TopicRefusal::NotAuthorised) => {
                self.stats.not_authorised.fetch_add(1, Relaxed);
            }
            Err(TopicRefusal::Unknown) => {
                self.stats.unknown_topic.fetch_add(1, Relaxed);
            }
        }
        decided
    }

    fn publish(
        &self,
        grant: &Grant,
        route: &Route,
        publish: &Inbound<'_>,
        ack: &Arc<AckCell>,
    ) -> Result<Accepted, PublishRefusal> {
        let Some(caller) = grant.context.downcast_ref::<Caller>() else {
            return Err(PublishRefusal::NotAuthorised);
        };
        let told = Completion::Cell(Arc::clone(ack));
        match route {
            Route::Reading { stream, of: None } => {
                let fresh_session = publish.clean_start && caller.first.load(Relaxed);
                self.take(&caller.device, stream, publish.payload, fresh_session, told)?;
                caller.first.store(false, Relaxed);
                Ok(Accepted::Journaled)
            }
            Route::Reading { stream, of: Some(of) } => match self.directory.find(of) {
                // A will is published long after it was authorised.
                Ok(device) if device.gateway() == Some(&*grant.device) => {
                    self.take(&device, stream, publish.payload, false, told)?;
                    Ok(Accepted::Journaled)
                }
                Ok(_) | Err(_) => Ok(self.let_go(grant)),
            },
            Route::Node => {
                let Some(topic) = Topic::parse(publish.topic) else {
                    return Ok(self.let_go(grant));
                };
                match self.node(&topic, publish.payload, ack) {
                    Ok(true) => Ok(Accepted::Journaled),
                    Ok(false) => Ok(self.let_go(grant)),
                    Err(refusal) => Err(refusal),
                }
            }
            Route::Unread => Ok(self.let_go(grant)),
            Route::DeviceLocal => Err(PublishRefusal::NotAuthorised),
        }
    }

    fn refused(&self, grant: &Grant, refused: Refused) {
        self.refusals.count(&grant.device, refused);
    }
}

impl HubIngress {
    /// What a client may do beyond its own tree: publish for the devices behind it, and speak the topics of its profile. Of a
    /// client that speaks foreign topics, those that nothing reads are let go: cut for each of them it could not be used.
    fn for_others(&self, grant: &Grant, action: TopicAction, name: &str) -> Option<Route> {
        let caller = grant.context.downcast_ref::<Caller>()?;
        let me = &*grant.device;
        if let Some((device, stream)) = reading_topic(name) {
            let behind = self.directory.find(device).ok()?.gateway() == Some(me);
            return (behind && action == TopicAction::Publish)
                .then(|| Route::Reading { stream: stream.into(), of: Some(device.into()) });
        }
        // What the hub says to a device, its gateway passes on.
        if action == TopicAction::Subscribe
            && let Some((child, rest)) =
                name.strip_prefix(TOPIC_ROOT).and_then(|rest| rest.split_once('/'))
        {
            let behind = self.directory.find(child).is_ok_and(|d| d.gateway() == Some(me));
            return (behind && rest.starts_with("cmd/")).then_some(Route::DeviceLocal);
        }
        let is_node = caller.device.profile.codec == Codec::Sparkplug;
        if name.starts_with(SPARKPLUG_ROOT) {
            return match action {
                TopicAction::Subscribe => {
                    (is_node && sparkplug::may_hear(me, name)).then_some(Route::DeviceLocal)
                }
                TopicAction::Publish => {
                    let topic =
                        Topic::parse(name).filter(|topic| topic.kind != SparkplugKind::Command)?;
                    (is_node && topic.node_id().is_ok_and(|id| id == me)).then_some(Route::Node)
                }
            };
        }
        let is_foreign =
            is_node || !caller.device.profile.topics.is_empty() || self.directory.is_gateway(me);
        if !is_foreign || name.starts_with(TOPIC_ROOT) {
            return None;
        }
        match action {
            // Nothing is ever routed there: only the hub's own tree is, and no other first level leads into it.
            TopicAction::Subscribe => {
                let first = name.split('/').next().unwrap_or_default();
                let elsewhere = !TOPIC_ROOT.starts_with(&format!("{first}/"))
                    && !first.starts_with(['$', '+', '#'])
                    && !first.is_empty();
                elsewhere.then_some(Route::DeviceLocal)
            }
            TopicAction::Publish => Some(self.foreign(me, name)),
        }
    }

    /// A message of a Sparkplug node; true when something of it is on its way to the journal, and `told` will be told.
    pub fn node(
        &self,
        topic: &Topic<'_>,
        payload: &Bytes,
        told: &Arc<AckCell>,
    ) -> Result<bool, PublishRefusal> {
        let now_ms = self.now_ms();
        self.sparkplug.take(
            &self.directory,
            now_ms,
            topic,
            payload,
            |(device, stream, raw), last| {
                let completion =
                    if last { Completion::Cell(Arc::clone(told)) } else { Completion::None };
                self.take(device, stream, raw, false, completion)
            },
        )
    }

    /// Hub time, milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.journal.now_us().div_euclid(1_000)
    }

    /// What the Sparkplug host has to do without a message.
    pub fn sparkplug_round(&self, way: &dyn Way) {
        let now_ms = self.now_ms();
        self.sparkplug.round(&self.directory, now_ms, way, |(device, stream, raw)| {
            // A figure of losses that finds no place is lost with what it tells of; the log has both.
            if let Err(refusal) = self.take(device, stream, raw, false, Completion::None) {
                tracing::warn!(device = %device.id, %refusal, "loss of Sparkplug messages not journaled");
            }
        });
    }

    fn foreign(&self, me: &str, topic: &str) -> Route {
        let (name, why) = match self.directory.reader(topic) {
            Ok((device, stream)) if device.id.as_str() == me => {
                return Route::Reading { stream: stream.into(), of: None };
            }
            Ok((device, stream)) if device.gateway() == Some(me) => {
                let of = Some(device.id.as_str().into());
                return Route::Reading { stream: stream.into(), of };
            }
            Ok((device, _)) => (
                Some(device.id.to_string()),
                format!("{me} publishes for it and is not its gateway"),
            ),
            Err(unread) => (unread.name().map(str::to_owned), unread.to_string()),
        };
        if let Some(name) = name {
            self.directory.note(&name, format!("gateway {me}"), &why);
        }
        Route::Unread
    }

    fn let_go(&self, grant: &Grant) -> Accepted {
        self.stats.unread.fetch_add(1, Relaxed);
        self.refusals.unread(&grant.device);
        Accepted::Settled(Settled::Unread)
    }

    /// Hands a device's frame to the journal; `told` will be told that it is durable.
    pub fn take(
        &self,
        device: &Device,
        stream: &str,
        payload: &Bytes,
        fresh_session: bool,
        told: Completion,
    ) -> Result<(), PublishRefusal> {
        let known = device.profile.stream(stream);
        let class = known.map_or(Class::Telemetry, |s| s.class);
        let space = self.space();
        if space >= Space::ControlOnly || (space >= Space::NoTelemetry && class == Class::Telemetry)
        {
            self.stats.no_space.fetch_add(1, Relaxed);
            return Err(PublishRefusal::Quota);
        }
        let decoded = decode(&device.profile, stream, payload);
        let (seq, boot) = match &decoded {
            Ok(reading) => (reading.seq, reading.boot.clone()),
            Err(_) => (None, None),
        };
        let frame = Frame {
            device: device.id.clone(),
            stream: stream.to_string(),
            boot,
            seq,
            profile: device.profile.hash,
            fresh_session,
            raw: payload.clone(),
        };
        let record = wire::encode_frame(&device.facility, &frame);
        match self.journal.append(device.shard, wire::KIND_FRAME, record, told) {
            Ok(()) => {}
            Err(AppendRefusal::Full) => {
                self.stats.queue_full.fetch_add(1, Relaxed);
                return Err(PublishRefusal::QueueFull);
            }
            Err(AppendRefusal::TooLarge) => return Err(PublishRefusal::Quota),
            Err(AppendRefusal::Stopped) => return Err(PublishRefusal::Unavailable),
        }
        match decoded {
            Ok(reading) => {
                self.stats.sound.fetch_add(1, Relaxed);
                let now_us = self.journal.now_us();
                self.tap.take(&device.facility, device.id.as_str(), &reading, now_us);
                self.calibrations.see(&device.id, known, &reading, HubTime(now_us));
            }
            Err(_) => {
                self.stats.unsound.fetch_add(1, Relaxed);
            }
        }
        Ok(())
    }
}

/// Device and stream of a reading's topic.
pub fn reading_topic(name: &str) -> Option<(&str, &str)> {
    let (device, stream) = name.strip_prefix(TOPIC_ROOT)?.split_once('/')?;
    (check_id(device).is_ok() && check_id(stream).is_ok() && stream != "cmd")
        .then_some((device, stream))
}

/// Topics of a device: `stockfold/v1/{device}/{stream}` is a reading; deeper ones stay among its own clients; `cmd` is the
/// hub's to write. Everything else belongs to somebody else.
fn authorise(device: &str, action: TopicAction, name: &str) -> Result<Route, TopicRefusal> {
    let Some(rest) = name.strip_prefix(TOPIC_ROOT) else {
        return Err(match action {
            TopicAction::Publish => TopicRefusal::Unknown,
            TopicAction::Subscribe => TopicRefusal::NotAuthorised,
        });
    };
    let own = rest.strip_prefix(device).and_then(|rest| rest.strip_prefix('/'));
    let Some(inner) = own else { return Err(TopicRefusal::NotAuthorised) };
    match action {
        // The device's part of the filter is spelled out, so it can match nobody else's topics.
        TopicAction::Subscribe => {
            debug_assert!(topic::literal_prefix(name).starts_with(TOPIC_ROOT));
            Ok(Route::DeviceLocal)
        }
        TopicAction::Publish => match inner.split_once('/') {
            None if check_id(inner).is_ok() && inner != "cmd" => {
                Ok(Route::Reading { stream: Arc::from(inner), of: None })
            }
            None => Err(TopicRefusal::Unknown),
            Some(("cmd", _)) => Err(TopicRefusal::NotAuthorised),
            Some(_) => Ok(Route::DeviceLocal),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_its_own_topics_and_no_others() {
        use TopicAction::{Publish, Subscribe};
        let ask = |action, name| authorise("d1", action, name);
        assert_eq!(
            ask(Publish, "stockfold/v1/d1/stock"),
            Ok(Route::Reading { stream: "stock".into(), of: None })
        );
        assert_eq!(ask(Publish, "stockfold/v1/d1/state/door"), Ok(Route::DeviceLocal));
        for (action, name, refusal) in [
            (Publish, "stockfold/v1/d2/stock", TopicRefusal::NotAuthorised),
            (Publish, "stockfold/v1/d1x/stock", TopicRefusal::NotAuthorised),
            (Publish, "stockfold/v1/d1/cmd/tare", TopicRefusal::NotAuthorised),
            (Publish, "stockfold/v1/d1/cmd", TopicRefusal::Unknown),
            (Publish, "stockfold/v1/d1/", TopicRefusal::Unknown),
            (Publish, "stockfold/v1/d1/a b", TopicRefusal::Unknown),
            (Publish, "stockfold/v1/d1", TopicRefusal::NotAuthorised),
            (Publish, "zigbee/x", TopicRefusal::Unknown),
            (Subscribe, "#", TopicRefusal::NotAuthorised),
            (Subscribe, "stockfold/v1/+/cmd/#", TopicRefusal::NotAuthorised),
            (Subscribe, "stockfold/v1/d2/cmd/#", TopicRefusal::NotAuthorised),
        ] {
            assert_eq!(ask(action, name), Err(refusal), "{name}");
        }
        assert_eq!(ask(Subscribe, "stockfold/v1/d1/cmd/#"), Ok(Route::DeviceLocal));
        assert_eq!(ask(Subscribe, "stockfold/v1/d1/#"), Ok(Route::DeviceLocal));
    }
}
