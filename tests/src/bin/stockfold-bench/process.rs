//! CPU time and memory of processes, read from `/proc`.

use std::{fs, path::Path};

/// The kernel counts CPU time in these, in microseconds.
const TICK_US: u64 = 10_000;

fn stat(pid: u32) -> Option<Vec<u64>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold anything; fields are counted after its closing parenthesis.
    let rest = text.rsplit_once(')')?.1;
    Some(rest.split_whitespace().map(|f| f.parse().unwrap_or(0)).collect())
}

/// User and system time of a process in microseconds; with `children`, of its ended children too.
pub fn cpu_us(pid: u32, children: bool) -> u64 {
    let Some(fields) = stat(pid) else { return 0 };
    let ticks = |i: usize| fields.get(i).copied().unwrap_or(0);
    let own = ticks(11) + ticks(12);
    (own + if children { ticks(13) + ticks(14) } else { 0 }) * TICK_US
}

/// Resident memory of a process, in bytes.
pub fn rss_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kb: u64 = line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0);
    kb * 1_024
}

/// Processes whose working directory is `dir`: all processes of a PostgreSQL cluster.
pub fn with_cwd(dir: &Path) -> Vec<u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == dir))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

/// CPU time of a PostgreSQL cluster, all but one backend, in microseconds.
pub fn cluster_cpu_us(cluster: &Path, but: u32) -> u64 {
    let postmaster = fs::read_to_string(cluster.join("postmaster.pid"))
        .ok()
        .and_then(|text| text.lines().next()?.parse::<u32>().ok());
    with_cwd(cluster)
        .into_iter()
        .filter(|pid| *pid != but)
        .map(|pid| cpu_us(pid, Some(pid) == postmaster))
        .sum()
}
