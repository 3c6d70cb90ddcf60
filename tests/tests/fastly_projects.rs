//! Projects made for Fastly Compute as they are: deployed by their folder, answering over HTTPS with what their manifest
//! says of backends, stores, geography and devices.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    thread,
};

use whole_flow::{Fleet, Proto, guest};

/// All that a manifest says of what a program finds, around a guest. `origin` is the backend of that name.
fn project(scratch: &Path, program: &str, origin: SocketAddr) -> PathBuf {
    let manifest = format!(
        r#"
        manifest_version = 3
        name = "{program}"
        language = "rust"

        [local_server.backends.origin]
        url = "http://{origin}"
        override_host = "origin.example"

        [local_server.config_stores.settings]
        format = "inline-toml"
        contents = {{ greeting = "hi from the manifest" }}

        [[local_server.kv_stores.kv]]
        key = "first"
        data = "a value"
        metadata = "beside it"

        [[local_server.kv_stores.kv]]
        key = "second"
        file = "second.txt"

        [[local_server.secret_stores.vault]]
        key = "token"
        data = "s3cret"

        [local_server.geolocation]
        format = "inline-toml"
        [local_server.geolocation.addresses."203.0.113.7"]
        as_name = "Example Networks"
        as_number = 64500
        area_code = 0
        city = "Atlantis"
        conn_speed = "broadband"
        conn_type = "wired"
        continent = "EU"
        country_code = "IS"
        country_code3 = "ISL"
        country_name = "Iceland"
        latitude = 64.25
        longitude = -21.5
        metro_code = 0
        postal_code = "101"
        proxy_description = "?"
        proxy_type = "?"
        region = "1"
        utc_offset = 0

        [local_server.device_detection]
        format = "inline-toml"
        [local_server.device_detection.user_agents."Phone/1.0"]
        user_agent = {{}}
        os = {{}}
        device = {{ name = "Phone One", brand = "Acme", model = "P1", hwtype = "Mobile Phone", is_mobile = true }}
        "#
    );
    let folder = scratch.join(program);
    fs::create_dir_all(folder.join("bin")).unwrap();
    fs::copy(guest(program), folder.join("bin/main.wasm")).unwrap();
    fs::write(folder.join("second.txt"), "a file's bytes").unwrap();
    fs::write(folder.join("fastly.toml"), manifest).unwrap();
    folder
}

/// An origin that says which path and host it was asked for. It lives as long as the test's process.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    address
}

/// One request of a connection. A client that goes away is not this test's subject.
fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let host = head.iter().find_map(|line| line.to_lowercase().strip_prefix("host: ").map(str::to_owned));
    let body = format!("{path} of {}\n", host.unwrap_or_default());
    let length = body.len();
    let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
}

#[test]
fn a_deployed_project_answers_with_the_backends_stores_places_and_devices_of_its_manifest() {
    let fleet = Fleet::shared();
    let origin = origin();
    for program in ["fastly-send", "fastly-stores", "fastly-kv", "fastly-lookups"] {
        let folder = project(fleet.scratch(), program, origin).display().to_string();
        let said = fleet.skerry(&["deploy", &folder, "--json", "--timeout", "120s"]).ok().json();
        assert_eq!((&said["outcome"], &said["app"]), (&"live".into(), &program.into()), "{said}");
    }
    for proto in Proto::secure() {
        let text = |app: &str, path: &str| fleet.get(proto, app, path).expect(200).text;
        let forwarded = fleet.get(proto, "fastly-send", "/forward/a/b?c=d").expect(200);
        assert_eq!(forwarded.text, "/a/b?c=d of origin.example\n", "{proto:?}");
        assert_eq!(forwarded.header("x-passed"), Some("fastly-send"), "{proto:?}");

        assert_eq!(text("fastly-stores", "/config?key=greeting"), "Ok(Some(\"hi from the manifest\"))\n");
        assert_eq!(text("fastly-stores", "/dictionary?key=greeting"), "Ok(Some(\"hi from the manifest\"))\n");
        assert_eq!(text("fastly-stores", "/secret?key=token"), "Ok(b\"s3cret\")\n");
        assert_eq!(text("fastly-stores", "/secret?key=absent"), "None\n");

        let first = text("fastly-kv", "/lookup?key=first");
        assert_eq!(first, "\"a value\" metadata Some(\"beside it\") has generation true\n", "{proto:?}");
        assert!(text("fastly-kv", "/lookup?key=second").starts_with("\"a file's bytes\""));
        assert!(text("fastly-kv", "/lookup?key=absent").contains("NotFound"));

        let place = text("fastly-lookups", "/geo?ip=203.0.113.7");
        for line in
            ["as 64500 Example Networks\n", "city Atlantis\n", "country IS ISL Iceland\n", "at 64.25 -21.5\n"]
        {
            assert!(place.contains(line), "{line:?} is not in {place}");
        }
        assert_eq!(text("fastly-lookups", "/geo?ip=203.0.113.8"), "None\n", "{proto:?}");
        let device = text("fastly-lookups", "/device?ua=Phone/1.0");
        assert!(
            device.contains("Phone One") && device.contains("Acme") && device.contains("mobile Some(true)"),
            "{device}"
        );
        assert_eq!(text("fastly-lookups", "/device?ua=Phone/2.0"), "None\n", "{proto:?}");
    }
}

#[test]
fn up_serves_a_project_with_a_place_for_this_machine_and_a_deploy_of_it_has_none() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = project(scratch.path(), "fastly-lookups", origin());
    let fleet = Fleet::up().with_project(&folder).start();
    let place = |app: &str, ip: &str| fleet.get(Proto::H2, app, &format!("/geo?ip={ip}")).expect(200).text;
    assert!(place("fastly-lookups", "127.0.0.1").contains("city San Francisco\n"));
    assert!(place("fastly-lookups", "::1").contains("city San Francisco\n"));
    assert!(place("fastly-lookups", "203.0.113.7").contains("city Atlantis\n"));

    let folder = folder.display().to_string();
    let deployed = ["deploy", &folder, "--app", "deployed", "--json", "--timeout", "120s"];
    assert_eq!(fleet.skerry(&deployed).ok().json()["outcome"], "live");
    assert_eq!(place("deployed", "127.0.0.1"), "None\n");
    assert!(place("deployed", "203.0.113.7").contains("city Atlantis\n"));
}
