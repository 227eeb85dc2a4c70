use std::io::ErrorKind;
use std::net::Ipv4Addr;

use super::*;
use crate::links::{self, Pair};
use crate::netlink::Message;
use crate::sandbox::{Namespace, available, exchange};
use crate::{Cidr, Keep};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 77, 3, 1);
const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn config(state: &tempfile::TempDir) -> NetworkConfig {
    NetworkConfig {
        name: "sf-test".to_owned(),
        pod_cidr: cidr("10.77.3.0/24"),
        service_cidr: cidr("10.177.0.0/16"),
        state_dir: state.path().to_owned(),
    }
}

fn pod(name: &str, uid: &str, keep: Keep) -> PodIdentity {
    PodIdentity { key: ObjectKey::new("default", name), uid: uid.to_owned(), keep }
}

fn plain(name: &str) -> PodIdentity {
    pod(name, name, Keep::WhilePodExists)
}

fn attach(node: &Namespace, network: &PodNetwork, pod: &PodIdentity) -> (Namespace, Ipv4Addr) {
    let netns = Namespace::new();
    let attachment = node.block_on(network.attach(pod, netns.fd())).unwrap();
    assert_eq!(attachment.gateway, GATEWAY);
    (netns, attachment.address)
}

#[test]
fn two_pods_reach_each_other_and_the_node_without_translation() {
    if !available() {
        return;
    }
    let (node, state) = (Namespace::new(), tempfile::tempdir().unwrap());
    let network = node.block_on(PodNetwork::open(config(&state))).unwrap();
    let ((one, first), (two, second)) = (attach(&node, &network, &plain("one")), attach(&node, &network, &plain("two")));
    two.serve(80, "two");
    node.serve(81, "node");
    assert_eq!(one.ask(second, 80), Ok(format!("two {first}")));
    assert_eq!(exchange(&one.udp(second, 80)), Ok(format!("two {first}")));
    assert_eq!(one.ask(GATEWAY, 81), Ok(format!("node {first}")));
    assert_eq!(node.ask(second, 80), Ok(format!("two {GATEWAY}")));
    assert_eq!(node.ask(GATEWAY, 81), Ok(format!("node {GATEWAY}")));
    assert_eq!(two.ask(first, 80), Err(ErrorKind::ConnectionRefused));
    // What a process without privileges may do.
    let setting = |path: &str| two.run(|| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{path}")).unwrap());
    assert_eq!((setting("ip_unprivileged_port_start").trim(), setting("ping_group_range").trim()), ("0", "0\t2147483647"));
    two.serve(82, "itself");
    assert_eq!(two.ask(Ipv4Addr::LOCALHOST, 82), Ok("itself 127.0.0.1".to_owned()));
}

/// Connects a node with a world that knows no way back to pods; the node's address there.
fn connect_to_world(node: &Namespace, world: &Namespace) -> Ipv4Addr {
    let uplink = Ipv4Addr::new(192, 0, 2, 1);
    let mut changes = node.run(|| bridge::open().unwrap());
    changes.watch_links().unwrap();
    node.run(|| {
        let mut socket = bridge::open().unwrap();
        socket.request(vec![links::make_bridge("up", 1400, links::mac_of(uplink))]).unwrap();
        let up = links::by_name(&mut socket, "up").unwrap().unwrap().index;
        let pair = Pair { name: "up0", bridge: up, group: 0, mtu: 1400, peer_netns: world.fd(), peer_mac: links::mac_of(WORLD) };
        let messages = vec![links::make_pair(pair), links::add_address(up, uplink, 24), links::add_default_route(up, WORLD)];
        socket.request(messages).unwrap();
    });
    world.run(|| {
        let mut socket = bridge::open().unwrap();
        let eth0 = links::by_name(&mut socket, "eth0").unwrap().unwrap().index;
        socket.request(vec![links::set_up(eth0), links::add_address(eth0, WORLD, 24)]).unwrap();
    });
    let operates = |socket: &mut crate::netlink::Socket| links::by_name(socket, "up0").unwrap().unwrap().operates;
    while !node.run(|| operates(&mut bridge::open().unwrap())) {
        changes.link_change().unwrap();
    }
    uplink
}

#[test]
fn what_leaves_the_node_leaves_under_its_address_and_in_packets_that_fit() {
    if !available() {
        return;
    }
    let (node, world, state) = (Namespace::new(), Namespace::new(), tempfile::tempdir().unwrap());
    let uplink = connect_to_world(&node, &world);
    let network = node.block_on(PodNetwork::open(config(&state))).unwrap();
    let (one, _) = attach(&node, &network, &plain("one"));
    world.serve(80, "world");
    assert_eq!(one.ask(WORLD, 80), Ok(format!("world {uplink}")));
    assert_eq!(exchange(&one.udp(WORLD, 80)), Ok(format!("world {uplink}")));
    let mtu = one.run(|| links::by_name(&mut bridge::open().unwrap(), "eth0").unwrap().unwrap().mtu);
    assert_eq!(mtu, 1400);
}

#[test]
fn a_pod_keeps_its_network_when_the_node_is_killed_and_comes_back() {
    if !available() {
        return;
    }
    let (node, state) = (Namespace::new(), tempfile::tempdir().unwrap());
    let network = node.block_on(PodNetwork::open(config(&state))).unwrap();
    let ((one, first), (two, second)) = (attach(&node, &network, &plain("one")), attach(&node, &network, &plain("two")));
    drop(network);
    two.serve(80, "two");
    assert_eq!(one.ask(second, 80), Ok(format!("two {first}")));
    let network = node.block_on(PodNetwork::open(config(&state))).unwrap();
    assert_eq!(one.ask(second, 80), Ok(format!("two {first}")));
    let again = node.block_on(network.attach(&plain("one"), one.fd())).unwrap();
    assert_eq!(again.address, first);
    assert_eq!(one.ask(second, 80), Ok(format!("two {first}")));
    assert_eq!(network.holders().len(), 2);
}

#[test]
fn an_ordinal_that_comes_back_is_reached_at_its_address_though_its_first_pod_lingers() {
    if !available() {
        return;
    }
    let (node, state) = (Namespace::new(), tempfile::tempdir().unwrap());
    let network = node.block_on(PodNetwork::open(config(&state))).unwrap();
    let (client, _) = attach(&node, &network, &plain("client"));
    let old = pod("redis-0", "old", Keep::UntilReleased);
    let (lingering, address) = attach(&node, &network, &old);
    lingering.serve(80, "old");
    assert!(client.ask(address, 80).unwrap().starts_with("old"));
    let new = pod("redis-0", "new", Keep::UntilReleased);
    let (netns, again) = attach(&node, &network, &new);
    assert_eq!(again, address);
    netns.serve(80, "new");
    for _ in 0..5 {
        assert!(client.ask(address, 80).unwrap().starts_with("new"));
    }
    node.block_on(network.detach(&old)).unwrap();
    assert!(client.ask(address, 80).unwrap().starts_with("new"));
}

#[test]
fn a_namespace_that_was_lost_is_replaced_for_the_same_pod() {
    if !available() {
        return;
    }
    let (node, state) = (Namespace::new(), tempfile::tempdir().unwrap());
    let network = node.block_on(PodNetwork::open(config(&state))).unwrap();
    let (first, address) = attach(&node, &network, &plain("one"));
    let (second, again) = attach(&node, &network, &plain("one"));
    assert_eq!(address, again);
    second.serve(80, "second");
    assert_eq!(node.ask(address, 80), Ok(format!("second {GATEWAY}")));
    assert!(first.run(|| links::by_name(&mut bridge::open().unwrap(), "eth0").unwrap()).is_none());
}

#[test]
fn removing_leaves_nothing_behind_and_keeps_the_addresses_unless_purged() {
    if !available() {
        return;
    }
    let (node, state) = (Namespace::new(), tempfile::tempdir().unwrap());
    let before = node.run(inventory);
    let network = node.block_on(PodNetwork::open(config(&state))).unwrap();
    let pods: Vec<_> = (0..5).map(|number| attach(&node, &network, &plain(&format!("p{number}")))).collect();
    node.block_on(async { service::Table::new(config(&state)).load(&plan::service::Ruleset::default()).await }).unwrap();
    assert_eq!(node.run(inventory), (before.0 + 1 + pods.len(), before.1 + 2));
    node.block_on(PodNetwork::remove(&config(&state), false)).unwrap();
    assert_eq!(node.run(inventory), before);
    assert!(state.path().join("addresses.json").exists());
    node.block_on(PodNetwork::remove(&config(&state), true)).unwrap();
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
}

/// How many links and nftables tables there are.
fn inventory() -> (usize, usize) {
    let count = |bus, kind, header: &[u8]| {
        let mut count = 0;
        crate::netlink::Socket::open(bus).unwrap().dump(Message::new(kind, header, "counting"), |_| count += 1).unwrap();
        count
    };
    (count(crate::netlink::Bus::Route, libc::RTM_GETLINK, &[0; 16]), count(crate::netlink::Bus::Netfilter, 10 << 8 | 1, &[0; 4]))
}

#[test]
fn networks_that_overlap_are_refused_by_name() {
    if !available() {
        return;
    }
    let (node, state, other_state) = (Namespace::new(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    node.block_on(PodNetwork::open(config(&state))).unwrap();
    let other = |pods: &str, services: &str| {
        let config = NetworkConfig {
            name: "sf-other".to_owned(),
            pod_cidr: cidr(pods),
            service_cidr: cidr(services),
            state_dir: other_state.path().to_owned(),
        };
        node.block_on(PodNetwork::open(config)).map(drop).map_err(|error| error.to_string())
    };
    let overlap = |a: &str, b: &str| Err(format!("{a} overlaps {b}, which this machine already uses: choose another with --pod-cidr"));
    assert_eq!(other("10.77.0.0/22", "10.178.0.0/16"), overlap("10.77.0.0/22", "10.77.3.0/24"));
    assert_eq!(other("10.77.4.0/24", "10.177.3.0/24"), overlap("10.177.3.0/24", "10.177.0.0/16"));
    assert_eq!(other("10.77.4.0/24", "10.77.4.0/28"), overlap("10.77.4.0/24", "the Services' network 10.77.4.0/28"));
    assert_eq!(other("10.77.4.0/24", "10.178.0.0/16"), Ok(()));
}

#[test]
fn names_and_sizes_that_cannot_work_are_refused() {
    let state = tempfile::tempdir().unwrap();
    let fine = config(&state);
    assert!(check(&fine).is_ok());
    for name in ["", "elevenchars", "Upper", "a/b", "a b"] {
        assert!(check(&NetworkConfig { name: name.to_owned(), ..fine.clone() }).is_err(), "{name}");
    }
    assert!(check(&NetworkConfig { pod_cidr: cidr("10.77.3.0/30"), ..fine }).is_err());
}

#[test]
fn the_last_instance_that_goes_puts_the_settings_of_the_machine_back() {
    if !available() {
        return;
    }
    let settings = ["ip_forward", "conf/all/send_redirects"];
    let read = |node: &Namespace| node.run(|| settings.map(|name| std::fs::read_to_string(path_of(name)).unwrap().trim().to_owned()));
    let write = |node: &Namespace, values: [&str; 2]| {
        node.run(|| settings.iter().zip(values).for_each(|(name, value)| std::fs::write(path_of(name), value).unwrap()));
    };
    let states = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let configs = [0, 1].map(|number| NetworkConfig {
        name: format!("sf-{number}"),
        pod_cidr: cidr(&format!("10.77.{number}.0/24")),
        service_cidr: cidr(&format!("10.78.{number}.0/24")),
        state_dir: states[number].path().to_owned(),
    });
    for before in [["0", "1"], ["1", "0"], ["1", "1"]] {
        let node = Namespace::new();
        write(&node, before);
        // Opened twice: who starts anew must not take what it changed itself for what was there.
        for config in [&configs[0], &configs[0], &configs[1]] {
            node.block_on(PodNetwork::open(config.clone())).unwrap();
            assert_eq!(read(&node), ["1", "0"]);
        }
        node.block_on(PodNetwork::remove(&configs[0], false)).unwrap();
        assert_eq!(read(&node), ["1", "0"]);
        node.block_on(PodNetwork::remove(&configs[1], false)).unwrap();
        assert_eq!(read(&node), before);
    }
}

fn path_of(setting: &str) -> String {
    format!("/proc/sys/net/ipv4/{setting}")
}
