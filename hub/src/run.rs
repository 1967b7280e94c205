//! The running hub: composition root and order of start and stop.
//!
//! ```text
//!  lock ─► PostgreSQL ─► journal (recovers) ─► shards (re-fold) ─┬─► MQTT endpoint ─► devices
//!                                                                ├─► API, page, feed
//!                                                                └─► reconcilers and cursors
//! ```
//! Stopping is the reverse and never needed for correctness: connections get the acknowledgements on their way, the journal
//! closes, the shards end at its end.

use std::{
    future::Future,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU16, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_rt::Arbiter;
use actors::{
    guardian::{End, Policy, Status, guard},
    journal::{Journal, Options, Threads},
    ports::{
        clock::{Clock, SystemClock},
        fs::{Fs, RealFs},
        rng::{Rng, SplitMix},
    },
    snapshot::SnapshotFiles,
    stock::{self, Board, Links, NOTICES_MAX},
    store::Batch,
};
use anyhow::Context;
use device_profiles::{ProfileHash, shipped::SHIPPED};
use tokio::sync::{broadcast, oneshot};

use crate::{
    api::{self, Auth},
    broker::{self, Broker},
    buses::Buses,
    config::Config,
    data_dir::DataDir,
    desk::Desk,
    directory::Directory,
    downlink::{self, Downlink, Way},
    elsewhere::{self, Elsewhere},
    ingress::{HubIngress, Space},
    mqtt::{Core, Limits, Listener, Secured},
    observe::Watch,
    publish::Publisher,
    readers::Readers,
    series::{self, Influx, SeriesStats, SeriesStore, cursor::Links as SeriesLinks},
    store::{PgStore, PrivateServer, partitions::Keep},
    tap::Tap,
    tls::{Authority, Files, Tls},
    trim,
};

/// Threads that answer HTTP.
const HTTP_THREADS: usize = 2;
/// Period of the look at disk and database, in milliseconds.
const LOOK_MS: u64 = 1_000;
/// Period of trimming, of the directory's own reload and of writing down refused devices, in seconds.
const HOUSEKEEPING_S: u64 = 10;
/// Period of the look at certificates, in seconds.
const CERTIFICATES_S: u64 = 1;
/// Period of counting tags for the metrics, in seconds.
const TAGS_S: u64 = 30;
/// Period of the Sparkplug host's own rounds, in milliseconds.
const SPARKPLUG_MS: u64 = 250;
/// Period of making and dropping partitions, in seconds.
const PARTITIONS_S: u64 = 3_600;
/// A series cursor that shows no life for so long is stalled, in seconds: a write may take as long as the store may.
const SERIES_STALL_S: u64 = 60;

/// A running hub.
pub struct Hub {
    /// Handles.
    pub desk: Desk,
    /// Where the API answers.
    pub http: SocketAddr,
    /// Where devices connect; `None` with an external broker.
    pub mqtt: Option<SocketAddr>,
    /// The external broker.
    pub broker: Option<Arc<Broker>>,
    /// Where devices connect over TLS.
    pub mqtt_tls: Option<SocketAddr>,
    /// The admin token, if it was made just now.
    pub new_token: Option<String>,
    /// Path and code of the one-time sign-in link.
    pub sign_in: String,
    stopper: api::Stopper,
    listener: Option<Listener>,
    journal: Journal<RealFs>,
    threads: Threads,
    arbiters: Vec<Arbiter>,
    server: Option<Arc<PrivateServer>>,
    _data_dir: DataDir,
}

/// Starts a hub. Must be called within an actix system. A start that fails leaves no PostgreSQL running that it started.
pub async fn start(config: &Config) -> anyhow::Result<Hub> {
    let data_dir = DataDir::lock(&config.data_dir())?;
    let server = match &config.database.url {
        Some(_) => None,
        None => Some(Arc::new(PrivateServer::ensure(data_dir.path()).await?)),
    };
    let mut leash = Leash(server.clone());
    let hub = start_on(config, data_dir, server).await?;
    leash.0 = None;
    Ok(hub)
}

/// Stops a PostgreSQL that this start began, unless the start succeeds: whether it fails or is given up half-way.
struct Leash(Option<Arc<PrivateServer>>);

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(server) = &self.0 {
            server.stop_if_ours();
        }
    }
}

async fn start_on(
    config: &Config,
    data_dir: DataDir,
    server: Option<Arc<PrivateServer>>,
) -> anyhow::Result<Hub> {
    let store = match (&config.database.url, &server) {
        (Some(url), _) => PgStore::open_url(url).await?,
        (None, Some(server)) => PgStore::open(server.options()).await?,
        (None, None) => anyhow::bail!("no database is configured"),
    };
    let series: Arc<dyn SeriesStore> = match config.series.influx()? {
        Some(influx) => Arc::new(Influx::open(&influx, store.clone())?),
        None => Arc::new(store.clone()),
    };
    let rng: Arc<dyn Rng> = Arc::new(SplitMix::new(random()?));

    let (journal, threads) = open_journal(config, &data_dir.journal())?;
    let shards = config.shards.count;
    store.check_shards(shards).await?;
    let batches: broadcast::Sender<Arc<Batch>> = broadcast::Sender::new(NOTICES_MAX);
    let boards: Arc<[Arc<Board>]> = (0..shards).map(|_| Board::telling(batches.clone())).collect();
    let children: Mutex<Vec<Arc<Status>>> = Mutex::default();
    let snapshots = SnapshotFiles::new(&data_dir.snapshots())?;
    let (arbiters, statuses) = start_shards(&journal, &store, &snapshots, &boards, &rng).await?;
    children.lock().unwrap_or_else(PoisonError::into_inner).extend(statuses);

    for (name, text) in SHIPPED {
        store.keep_profile(name, &ProfileHash::of(text).0, text).await?;
    }
    let directory = Arc::new(Directory::default());
    directory.reload(&store).await?;
    let tap = Arc::new(Tap::default());
    let ingress =
        Arc::new(HubIngress::new(Arc::clone(&directory), journal.clone(), Arc::clone(&tap)));
    let limits = Limits { connections_max: config.mqtt.connections_max, ..Limits::default() };
    let core = Core::new(limits, Arc::clone(&ingress) as Arc<_>, tokio::time::Instant::now());

    let buses =
        Arc::new(Buses::new(Arc::clone(&directory), Arc::clone(&ingress), Arc::clone(&rng)));
    let readers = Arc::new(Readers::new(
        Arc::clone(&directory),
        Arc::clone(&ingress),
        Arc::clone(&rng),
        config.readers.clone(),
    ));
    let broker = match broker::Settings::of(&config.mqtt)? {
        None => None,
        Some(settings) => {
            let (broker, status) = Broker::start(
                settings,
                Arc::clone(&ingress),
                Arc::clone(&directory),
                Arc::clone(&rng),
            )
            .await?;
            children.lock().unwrap_or_else(PoisonError::into_inner).push(status);
            Some(Arc::new(broker))
        }
    };
    let tls = Arc::new(open_tls(config, data_dir.path())?);
    let watch = Arc::new(Watch {
        children,
        database: AtomicBool::new(true),
        disk_permille: AtomicU16::new(0),
        series: Arc::new(SeriesStats::default()),
        ingress: Arc::clone(&ingress),
        broker: broker.clone(),
        tags: Mutex::default(),
    });
    let way: Arc<dyn Way> = match &broker {
        Some(broker) => Arc::clone(broker) as Arc<_>,
        None => Arc::clone(&core) as Arc<_>,
    };
    let desk = Desk {
        downlink: Arc::new(Downlink::new(Arc::clone(&way))),
        store,
        series,
        journal: journal.clone(),
        boards,
        batches,
        publisher: Arc::new(Publisher::default()),
        directory,
        buses,
        readers,
        endpoint: Arc::clone(&core),
        tls: Arc::clone(&tls),
        tap,
        watch: Arc::clone(&watch),
    };
    look(&desk, &config.journal);
    // Before the first point is written: a day that has points in the default partition gets none of its own.
    keep_partitions(&desk, config.series.keep()).await?;
    let statuses = reconcilers(
        &desk,
        config,
        server.is_some().then(|| data_dir.path().to_owned()),
        &snapshots,
        &way,
        &rng,
    );
    watch.children.lock().unwrap_or_else(PoisonError::into_inner).extend(statuses);

    let (token_hash, new_token) = data_dir.token()?;
    let auth = Auth::new(token_hash);
    let code = auth
        .issue_sign_in_code()
        .map_err(|e| anyhow::anyhow!("no randomness from the operating system: {e}"))?;
    let bound =
        api::serve(desk.clone(), config.http.bind, auth, HTTP_THREADS).with_context(|| {
            format!(
                "cannot listen on {} for HTTP; is another program using it? ([http] bind)",
                config.http.bind
            )
        })?;
    let (http, stopper) = (bound.address, bound.stopper());
    actix_rt::spawn(bound.run());
    let listener = match &broker {
        Some(_) => None,
        None => Some(listen(config, core, tls).await?),
    };
    let mqtt = listener.as_ref().map(Listener::address);
    let mqtt_tls = listener.as_ref().and_then(Listener::tls_address);
    tracing::info!(
        %http,
        mqtt = mqtt.map(tracing::field::display),
        mqtt_tls = mqtt_tls.map(tracing::field::display),
        "hub is ready"
    );
    Ok(Hub {
        desk,
        http,
        mqtt,
        mqtt_tls,
        broker,
        new_token,
        sign_in: format!("/signin?code={code}"),
        stopper,
        listener,
        journal,
        threads,
        arbiters,
        server,
        _data_dir: data_dir,
    })
}

/// Opens the embedded endpoint.
async fn listen(config: &Config, core: Arc<Core>, tls: Arc<Tls>) -> anyhow::Result<Listener> {
    let secured = config.mqtt.tls_bind.map(|bind| Secured { bind, tls });
    Listener::bind(core, config.mqtt.bind, secured, config.mqtt.threads).await.map_err(
        |(bind, error)| {
            anyhow::Error::from(error).context(format!(
                "cannot listen on {bind} for MQTT; is another program using it? ([mqtt] bind, tls_bind)"
            ))
        },
    )
}

impl Hub {
    /// Stops: acknowledgements on their way go out, what is journaled is synced. `stop_database` for the private server too.
    pub async fn stop(self, stop_database: bool) {
        if let Some(broker) = &self.broker {
            broker.stop().await;
        }
        if let Some(listener) = self.listener {
            listener.drain().await;
        }
        self.stopper.stop().await;
        self.desk.buses.running.stop();
        self.desk.readers.running.stop();
        self.journal.close();
        let joined = tokio::task::spawn_blocking(move || self.threads.join()).await;
        if joined.is_err() {
            tracing::error!("the journal's threads ended badly");
        }
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        if stop_database
            && let Some(server) = &self.server
            && let Err(error) = server.stop()
        {
            tracing::warn!(%error, "the private PostgreSQL did not stop");
        }
    }
}

fn random() -> anyhow::Result<u64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes)
        .map_err(|e| anyhow::anyhow!("no randomness from the operating system: {e}"))?;
    Ok(u64::from_le_bytes(bytes))
}

fn open_journal(config: &Config, dir: &Path) -> anyhow::Result<(Journal<RealFs>, Threads)> {
    let fs = RealFs::new(dir)
        .with_context(|| format!("cannot use the journal's directory {}", dir.display()))?;
    let options = Options {
        group_wait_us: config.journal.group_wait_us,
        salt_if_new: random()?,
        ..Options::default()
    };
    let (journal, writer, recovered) = Journal::open(fs, Arc::new(SystemClock::new()), &options)?;
    if let Some(torn) = recovered.torn {
        tracing::warn!(
            offset = torn.offset,
            "the last group was torn by a crash and is cut; nothing in it was acknowledged"
        );
    }
    tracing::info!(
        epoch = recovered.epoch,
        new = recovered.new,
        end = recovered.end,
        "journal is open"
    );
    let threads = Threads::spawn(&journal, writer, options.segment_bytes, |error| {
        // What the kernel did with the pages of a failed sync is unknown, so nothing in memory can be believed either.
        // Not a panic: no destructor may run, no acknowledgement go out.
        tracing::error!(%error, "the journal cannot be written; the process ends now and recovers on restart");
        std::process::abort();
    })?;
    Ok((journal, threads))
}

fn open_tls(config: &Config, data_dir: &Path) -> anyhow::Result<Tls> {
    let now_s = wall_s();
    let authority = Authority::open(data_dir, now_s)
        .context("the hub's own certificate authority cannot be used")?;
    let files = Files {
        server: config.tls.cert_file.clone().zip(config.tls.key_file.clone()),
        client_ca: config.tls.client_ca_file.clone(),
    };
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    names.extend(config.mqtt.tls_bind.map(|bind| bind.ip().to_string()));
    names.extend([host.clone(), format!("{host}.local")]);
    names.retain(|name| rustls::pki_types::ServerName::try_from(name.as_str()).is_ok());
    names.extend(config.tls.names.iter().cloned());
    names.sort();
    names.dedup();
    Tls::open(authority, files, names, now_s)
        .context("TLS cannot be offered ([tls] cert_file, key_file, client_ca_file)")
}

/// The wall clock that certificates are judged by, in seconds since the Unix epoch; devices and rustls use theirs as well.
fn wall_s() -> i64 {
    SystemClock::new().wall_us().div_euclid(1_000_000)
}

/// Each shard has an arbiter of its own. Returns when every guardian runs.
async fn start_shards(
    journal: &Journal<RealFs>,
    store: &PgStore,
    snapshots: &SnapshotFiles,
    boards: &Arc<[Arc<Board>]>,
    rng: &Arc<dyn Rng>,
) -> anyhow::Result<(Vec<Arbiter>, Vec<Arc<Status>>)> {
    let (mut arbiters, mut statuses) = (Vec::new(), Vec::new());
    for (id, board) in (0u16..).zip(boards.iter()) {
        let links = Links {
            journal: journal.clone(),
            store: Arc::new(store.clone()),
            snapshots: Arc::new(snapshots.clone()),
            board: Arc::clone(board),
            rng: Arc::clone(rng),
        };
        let arbiter = Arbiter::new();
        let (tell, told) = oneshot::channel();
        arbiter.spawn_fn(move || {
            let _ = tell.send(stock::run(id, links, Policy::default()));
        });
        statuses.push(told.await.context("a shard's thread ended at its start")?);
        arbiters.push(arbiter);
    }
    // Ready means: every shard has re-folded up to the store, or has said why it cannot.
    for (status, board) in statuses.iter().zip(boards.iter()) {
        let mut begun = board.begun();
        tokio::select! {
            _ = begun.wait_for(|begun| *begun) => {}
            why = gave_up(status) => anyhow::bail!("{why}"),
        }
    }
    Ok((arbiters, statuses))
}

async fn gave_up(status: &Status) -> String {
    loop {
        if let actors::guardian::State::GaveUp(why) = status.state() {
            return why;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A look at the disk, and what follows from it.
fn look(desk: &Desk, limits: &crate::config::Journal) {
    match desk.journal.fs().used_permille() {
        Ok(permille) => {
            desk.watch.disk_permille.store(permille, Relaxed);
            let space = Space::of(permille, limits);
            let before = desk.watch.ingress.space();
            if space != before {
                if space > before {
                    tracing::warn!(?space, permille, "the disk fills");
                } else {
                    tracing::info!(?space, permille, "the disk has room again");
                }
                desk.watch.ingress.set_space(space);
            }
        }
        Err(error) => tracing::warn!(%error, "cannot tell how full the disk is"),
    }
}

/// Makes the series' partitions for the days around today and drops the old ones.
async fn keep_partitions(desk: &Desk, keep: Keep) -> Result<(), crate::store::fault::Fault> {
    let today = desk.now_us().div_euclid(series::DAY_US);
    let dropped = desk.store.keep_partitions(today, keep).await?;
    if !dropped.is_empty() {
        tracing::info!(?dropped, "old readings are gone");
    }
    desk.store.forget_commands(downlink::KEEP_DAYS).await?;
    Ok(())
}

/// Starts a reconciler: rounds with a pause between, under a guardian.
fn every<F, Fut>(name: &'static str, pause: Duration, rng: &Arc<dyn Rng>, round: F) -> Arc<Status>
where
    F: Fn() -> Fut + 'static,
    Fut: Future<Output = Result<(), String>>,
{
    let round = std::rc::Rc::new(round);
    let policy = Policy {
        restarts_max: u32::MAX,
        stall_after: pause * 3 + Duration::from_secs(60),
        ..Policy::default()
    };
    guard(name, policy, Arc::clone(rng), move |status| {
        let round = std::rc::Rc::clone(&round);
        async move {
            loop {
                status.beat();
                if let Err(why) = round().await {
                    return End::Failed(why);
                }
                tokio::time::sleep(pause).await;
            }
        }
    })
}

fn reconcilers(
    desk: &Desk,
    config: &Config,
    private: Option<std::path::PathBuf>,
    snapshots: &SnapshotFiles,
    way: &Arc<dyn Way>,
    rng: &Arc<dyn Rng>,
) -> Vec<Arc<Status>> {
    let mut children = Vec::new();
    let (ingress, way) = (Arc::clone(&desk.watch.ingress), Arc::clone(way));
    children.push(every("sparkplug", Duration::from_millis(SPARKPLUG_MS), rng, move || {
        let (ingress, way) = (Arc::clone(&ingress), Arc::clone(&way));
        async move {
            ingress.sparkplug_round(&*way);
            Ok(())
        }
    }));
    let (d, limits) = (desk.clone(), config.journal.clone());
    children.push(every("look", Duration::from_millis(LOOK_MS), rng, move || {
        let (d, limits, private) = (d.clone(), limits.clone(), private.clone());
        async move {
            look(&d, &limits);
            let up = d.store.is_up().await;
            if d.watch.database.swap(up, Relaxed) != up {
                if up {
                    tracing::info!("PostgreSQL answers again");
                } else {
                    tracing::error!("PostgreSQL does not answer; readings wait in the journal");
                }
            }
            if !up && let Some(dir) = private {
                PrivateServer::ensure(&dir).await.map_err(|e| e.to_string())?;
            }
            Ok(())
        }
    }));
    let d = desk.clone();
    children.push(every("publication", Duration::ZERO, rng, move || {
        let d = d.clone();
        async move {
            let known = async || d.credentials_changed().await;
            d.publisher.round(&d.store, &d.journal, known).await.map_err(|e| e.to_string())?;
            d.publisher.wait().await;
            Ok(())
        }
    }));
    let d = desk.clone();
    children.push(every("commands", Duration::ZERO, rng, move || {
        let d = d.clone();
        async move {
            d.downlink.round(&d.store).await.map_err(|e| e.to_string())?;
            d.downlink.wait().await;
            Ok(())
        }
    }));
    let d = desk.clone();
    children.push(every("directory", Duration::from_secs(HOUSEKEEPING_S), rng, move || {
        let d = d.clone();
        async move {
            d.credentials_changed().await;
            d.directory.flush_seen(&d.store).await.map_err(|e| e.to_string())
        }
    }));
    let d = desk.clone();
    // At once: a hub that is killed goes on with what is written down, and a pick is no receipt.
    children.push(every("scanners", Duration::ZERO, rng, move || {
        let d = d.clone();
        async move {
            let changed = d.buses.sessions.changed();
            let _ = tokio::time::timeout(Duration::from_secs(HOUSEKEEPING_S), changed).await;
            d.buses.write_down(&d.store).await.map_err(|e| e.to_string())
        }
    }));
    let (d, limits, snapshots) = (desk.clone(), config.journal.clone(), snapshots.clone());
    children.push(every("trim", Duration::from_secs(HOUSEKEEPING_S), rng, move || {
        let (d, limits, snapshots) = (d.clone(), limits.clone(), snapshots.clone());
        async move {
            let boards = Arc::clone(&d.boards);
            trim::round(&d.store, &d.journal, &snapshots, &boards, &limits, d.series.cursor())
                .await
                .map(drop)
                .map_err(|e| e.to_string())
        }
    }));
    let (d, keep) = (desk.clone(), config.series.keep());
    children.push(every("partitions", Duration::from_secs(PARTITIONS_S), rng, move || {
        let d = d.clone();
        async move { keep_partitions(&d, keep).await.map_err(|e| e.to_string()) }
    }));
    let (d, round) = (desk.clone(), Arc::new(Elsewhere::new(desk.batches())));
    children.push(every("elsewhere", Duration::from_millis(elsewhere::ROUND_MS), rng, move || {
        let (d, round) = (d.clone(), Arc::clone(&round));
        async move { round.round(&d).await.map(drop).map_err(|e| e.to_string()) }
    }));
    let d = desk.clone();
    children.push(every("tags", Duration::from_secs(TAGS_S), rng, move || {
        let d = d.clone();
        async move { d.count_tags().await.map_err(|e| e.to_string()) }
    }));
    let d = desk.clone();
    children.push(every("certificates", Duration::from_secs(CERTIFICATES_S), rng, move || {
        let tls = Arc::clone(&d.tls);
        async move {
            let round = tokio::task::spawn_blocking(move || tls.round(wall_s()));
            round.await.map_err(|e| e.to_string())
        }
    }));
    let d = desk.clone();
    let policy = Policy {
        restarts_max: u32::MAX,
        stall_after: Duration::from_secs(SERIES_STALL_S),
        ..Policy::default()
    };
    let jitter = Arc::clone(rng);
    children.push(guard("series", policy, Arc::clone(rng), move |status| {
        let (d, jitter) = (d.clone(), Arc::clone(&jitter));
        async move {
            let links = SeriesLinks {
                series: &*d.series,
                store: &d.store,
                journal: &d.journal,
                stats: &d.watch.series,
                rng: &*jitter,
            };
            match series::run(&links, || status.beat()).await {
                Ok(()) => End::Done,
                Err(error) => End::Failed(error.to_string()),
            }
        }
    }));
    children
}
