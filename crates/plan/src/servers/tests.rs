use super::*;

fn server(lease: &str, address: &str, silent: u64) -> Server {
    Server {
        lease: lease.to_owned(),
        address: address.parse().ok(),
        silent: Duration::from_secs(silent),
        patience: Duration::from_secs(15),
    }
}

#[test]
fn whoever_renews_is_published_and_whoever_is_silent_goes() {
    let servers = [
        server("a", "10.0.0.1:6443", 0),
        server("b", "10.0.0.2:6443", 15),
        server("c", "10.0.0.3:6443", 16),
        server("d", "10.0.0.1:7443", 3),
        server("e", "somewhere", 3),
        server("f", "somewhere", 99),
    ];
    let plan = plan(&servers);
    let set = |addresses: &[[u8; 4]]| addresses.iter().map(|address| Ipv4Addr::from(*address)).collect::<BTreeSet<_>>();
    assert_eq!(plan.served, Served::from([(6443, set(&[[10, 0, 0, 1], [10, 0, 0, 2]])), (7443, set(&[[10, 0, 0, 1]]))]));
    assert_eq!(plan.gone, ["c", "f"]);
}
