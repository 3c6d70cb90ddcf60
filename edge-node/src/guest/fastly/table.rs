//! Every function of the interface that is known, and what this host makes of it.
//!
//! Names and types are those of `fastly-sys` 0.13.2 and of the definitions in `viceroy-lib` 0.22.0. [`super::link`]
//! links by this table and tests hold it against what is defined and against what they call, so it cannot say more
//! than there is. `docs/fastly-interface.md` is written from it by [`markdown`].

use std::{collections::HashMap, sync::LazyLock};

/// What this host makes of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Support {
    /// It does what it says.
    Done,
    /// It checks its arguments and gives the one answer that this host has.
    Constant,
    /// It answers UNSUPPORTED, which SDKs know.
    Unsupported,
}

/// One function of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: &'static str,
    /// Its type: `i` is i32, `I` is i64, results after `:`.
    pub(super) ty: &'static str,
    pub(super) support: Support,
    /// What a reader should know beside; empty when there is nothing.
    pub(super) note: &'static str,
}

impl Function {
    const fn but(self, note: &'static str) -> Function {
        Function { note, ..self }
    }
}

const fn done(name: &'static str, ty: &'static str) -> Function {
    Function { name, ty, support: Support::Done, note: "" }
}

const fn constant(name: &'static str, ty: &'static str) -> Function {
    Function { name, ty, support: Support::Constant, note: "" }
}

const fn unsupported(name: &'static str, ty: &'static str) -> Function {
    Function { name, ty, support: Support::Unsupported, note: "" }
}

/// Of `cache_override_set` and its newer forms.
const NO_CACHE: &str = "Tag, times and surrogate keys are checked and kept with the request; there is no cache, so \
                        every request goes to its backend as if it said pass.";

/// Of `framing_headers_mode_set`.
const FRAMING: &str = "Manual: a streamed body has the `Content-Length` of its head, and breaks off when that does not \
                       come true; one that is complete when its head is sent has its true length in either mode. `Transfer-Encoding` is never \
                       the program's.";

/// A module and its functions.
type ModuleRows = (&'static str, &'static [Function]);

/// All of them, by module and name.
#[rustfmt::skip]
pub(super) const TABLE: [ModuleRows; 24] = [
    ("fastly_abi", &[
        done("init", "I:i"),
    ]),
    ("fastly_acl", &[
        unsupported("lookup", "iiiii:i"),
        unsupported("open", "iii:i"),
    ]),
    ("fastly_async_io", &[
        done("is_ready", "ii:i"),
        done("select", "iiii:i"),
    ]),
    ("fastly_backend", &[
        done("exists", "iii:i"),
        done("get_between_bytes_timeout_ms", "iii:i"),
        done("get_connect_timeout_ms", "iii:i"),
        done("get_first_byte_timeout_ms", "iii:i"),
        done("get_host", "iiiii:i"),
        done("get_http_keepalive_time", "iii:i"),
        done("get_override_host", "iiiii:i"),
        done("get_port", "iii:i"),
        done("get_ssl_max_version", "iii:i"),
        done("get_ssl_min_version", "iii:i"),
        done("get_tcp_keepalive_enable", "iii:i"),
        done("get_tcp_keepalive_interval", "iii:i"),
        done("get_tcp_keepalive_probes", "iii:i"),
        done("get_tcp_keepalive_time", "iii:i"),
        done("is_dynamic", "iii:i"),
        done("is_healthy", "iii:i").but(
            "Known of declared backends with several origins or a probe once they were used; of others: unknown."
        ),
        done("is_ssl", "iii:i"),
    ]),
    ("fastly_cache", &[
        unsupported("cache_busy_handle_wait", "ii:i"),
        unsupported("close", "i:i"),
        unsupported("close_busy", "i:i"),
        unsupported("get_age_ns", "ii:i"),
        unsupported("get_body", "iiii:i"),
        unsupported("get_hits", "ii:i"),
        unsupported("get_length", "ii:i"),
        unsupported("get_max_age_ns", "ii:i"),
        unsupported("get_stale_while_revalidate_ns", "ii:i"),
        unsupported("get_state", "ii:i"),
        unsupported("get_user_metadata", "iiii:i"),
        unsupported("insert", "iiiii:i"),
        unsupported("lookup", "iiiii:i"),
        unsupported("replace", "iiiii:i"),
        unsupported("replace_get_age_ns", "ii:i"),
        unsupported("replace_get_body", "iiii:i"),
        unsupported("replace_get_hits", "ii:i"),
        unsupported("replace_get_length", "ii:i"),
        unsupported("replace_get_max_age_ns", "ii:i"),
        unsupported("replace_get_stale_while_revalidate_ns", "ii:i"),
        unsupported("replace_get_state", "ii:i"),
        unsupported("replace_get_user_metadata", "iiii:i"),
        unsupported("replace_insert", "iiii:i"),
        unsupported("transaction_cancel", "i:i"),
        unsupported("transaction_insert", "iiii:i"),
        unsupported("transaction_insert_and_stream_back", "iiiii:i"),
        unsupported("transaction_lookup", "iiiii:i"),
        unsupported("transaction_lookup_async", "iiiii:i"),
        unsupported("transaction_update", "iii:i"),
    ]),
    ("fastly_compute_runtime", &[
        done("get_heap_mib", "i:i"),
        done("get_vcpu_ms", "i:i"),
        constant("has_domain_inspector", "i:i"),
        constant("has_image_optimizer", "i:i"),
        constant("has_origin_inspector", "i:i"),
    ]),
    ("fastly_config_store", &[
        done("get", "iiiiii:i"),
        done("open", "iii:i"),
    ]),
    ("fastly_device_detection", &[
        done("lookup", "iiiii:i"),
    ]),
    ("fastly_dictionary", &[
        done("get", "iiiiii:i"),
        done("open", "iii:i"),
    ]),
    ("fastly_erl", &[
        unsupported("check_rate", "iiiiiiiiiii:i"),
        unsupported("penaltybox_add", "iiiii:i"),
        unsupported("penaltybox_has", "iiiii:i"),
        unsupported("ratecounter_increment", "iiiii:i"),
        unsupported("ratecounter_lookup_count", "iiiiii:i"),
        unsupported("ratecounter_lookup_rate", "iiiiii:i"),
    ]),
    ("fastly_geo", &[
        done("lookup", "iiiii:i"),
    ]),
    ("fastly_http_body", &[
        done("abandon", "i:i"),
        done("append", "ii:i"),
        done("close", "i:i"),
        done("known_length", "ii:i"),
        done("new", "i:i"),
        done("read", "iiii:i"),
        done("trailer_append", "iiiii:i"),
        done("trailer_names_get", "iiiiii:i"),
        done("trailer_value_get", "iiiiii:i"),
        done("trailer_values_get", "iiiiiiii:i"),
        done("write", "iiiii:i"),
    ]),
    ("fastly_http_cache", &[
        unsupported("close", "i:i"),
        unsupported("get_age_ns", "ii:i"),
        unsupported("get_found_response", "iiii:i"),
        unsupported("get_hits", "ii:i"),
        unsupported("get_length", "ii:i"),
        unsupported("get_max_age_ns", "ii:i"),
        unsupported("get_sensitive_data", "ii:i"),
        unsupported("get_stale_if_error_ns", "ii:i"),
        unsupported("get_stale_while_revalidate_ns", "ii:i"),
        unsupported("get_state", "ii:i"),
        unsupported("get_suggested_backend_request", "ii:i"),
        unsupported("get_suggested_cache_key", "iiii:i"),
        unsupported("get_suggested_cache_options", "iiiiii:i"),
        unsupported("get_surrogate_keys", "iiii:i"),
        unsupported("get_vary_rule", "iiii:i"),
        unsupported("is_request_cacheable", "ii:i"),
        unsupported("lookup", "iiii:i"),
        unsupported("prepare_response_for_storage", "iiii:i"),
        unsupported("transaction_abandon", "i:i"),
        unsupported("transaction_choose_stale", "i:i"),
        unsupported("transaction_insert", "iiiii:i"),
        unsupported("transaction_insert_and_stream_back", "iiiiii:i"),
        unsupported("transaction_lookup", "iiii:i"),
        unsupported("transaction_record_not_cacheable", "iii:i"),
        unsupported("transaction_update", "iiii:i"),
        unsupported("transaction_update_and_return_fresh", "iiiii:i"),
    ]),
    ("fastly_http_downstream", &[
        constant("downstream_bot_analyzed", "ii:i"),
        constant("downstream_bot_category", "iiii:i"),
        constant("downstream_bot_category_kind", "ii:i"),
        constant("downstream_bot_detected", "ii:i"),
        constant("downstream_bot_name", "iiii:i"),
        constant("downstream_bot_verified", "ii:i"),
        constant("downstream_client_ddos_detected", "ii:i"),
        constant("downstream_client_h2_fingerprint", "iiii:i"),
        done("downstream_client_ip_addr", "iii:i"),
        constant("downstream_client_oh_fingerprint", "iiii:i"),
        done("downstream_client_request_id", "iiii:i"),
        constant("downstream_compliance_region", "iiii:i"),
        done("downstream_original_header_count", "ii:i"),
        done("downstream_original_header_names", "iiiiii:i"),
        constant("downstream_resvpnproxy_is_anonymous", "ii:i"),
        constant("downstream_resvpnproxy_is_anonymous_vpn", "ii:i"),
        constant("downstream_resvpnproxy_is_hosting_provider", "ii:i"),
        constant("downstream_resvpnproxy_is_proxy_over_vpn", "ii:i"),
        constant("downstream_resvpnproxy_is_public_proxy", "ii:i"),
        constant("downstream_resvpnproxy_is_relay_proxy", "ii:i"),
        constant("downstream_resvpnproxy_is_residential_proxy", "ii:i"),
        constant("downstream_resvpnproxy_is_smart_dns_proxy", "ii:i"),
        constant("downstream_resvpnproxy_is_tor_exit_node", "ii:i"),
        constant("downstream_resvpnproxy_is_vpn_datacenter", "ii:i"),
        constant("downstream_resvpnproxy_vpn_service_name", "iiii:i"),
        done("downstream_server_ip_addr", "iii:i"),
        done("downstream_tls_cipher_openssl_name", "iiii:i"),
        constant("downstream_tls_client_cert_verify_result", "ii:i"),
        constant("downstream_tls_client_hello", "iiii:i"),
        done("downstream_tls_client_servername", "iiii:i"),
        constant("downstream_tls_ja3_md5", "iii:i"),
        constant("downstream_tls_ja4", "iiii:i"),
        done("downstream_tls_protocol", "iiii:i"),
        constant("downstream_tls_raw_client_certificate", "iiii:i"),
        unsupported("downstream_visits_this_pop", "i:i"),
        unsupported("downstream_visits_this_service", "i:i"),
        constant("fastly_key_is_valid", "ii:i"),
        unsupported("next_request", "iii:i"),
        unsupported("next_request_abandon", "i:i"),
        unsupported("next_request_wait", "iii:i"),
    ]),
    ("fastly_http_req", &[
        done("auto_decompress_response_set", "ii:i"),
        done("body_downstream_get", "ii:i"),
        constant("cache_override_set", "iiii:i").but(NO_CACHE),
        constant("cache_override_v2_set", "iiiiii:i").but(NO_CACHE),
        constant("cache_override_v3_set", "iii:i").but(NO_CACHE),
        done("close", "i:i"),
        constant("downstream_client_ddos_detected", "i:i"),
        constant("downstream_client_h2_fingerprint", "iii:i"),
        done("downstream_client_ip_addr", "ii:i"),
        constant("downstream_client_oh_fingerprint", "iii:i"),
        done("downstream_client_request_id", "iii:i"),
        constant("downstream_compliance_region", "iii:i"),
        done("downstream_server_ip_addr", "ii:i"),
        done("downstream_tls_cipher_openssl_name", "iii:i"),
        constant("downstream_tls_client_cert_verify_result", "i:i"),
        constant("downstream_tls_client_hello", "iii:i"),
        constant("downstream_tls_ja3_md5", "ii:i"),
        constant("downstream_tls_ja4", "iii:i"),
        done("downstream_tls_protocol", "iii:i"),
        constant("downstream_tls_raw_client_certificate", "iii:i"),
        constant("fastly_key_is_valid", "i:i"),
        done("framing_headers_mode_set", "ii:i").but(FRAMING),
        done("header_append", "iiiii:i"),
        done("header_insert", "iiiii:i"),
        done("header_names_get", "iiiiii:i"),
        done("header_remove", "iii:i"),
        done("header_value_get", "iiiiii:i"),
        done("header_values_get", "iiiiiiii:i"),
        done("header_values_set", "iiiii:i"),
        unsupported("inspect", "iiiiiii:i"),
        done("method_get", "iiii:i"),
        done("method_set", "iii:i"),
        done("new", "i:i"),
        unsupported("on_behalf_of", "iii:i"),
        done("original_header_count", "i:i"),
        done("original_header_names_get", "iiiii:i"),
        done("pending_req_header_append", "iiiiii:i"),
        done("pending_req_header_insert", "iiiiii:i"),
        done("pending_req_header_remove", "iiii:i"),
        done("pending_req_poll", "iiii:i"),
        done("pending_req_poll_v2", "iiiii:i"),
        done("pending_req_select", "iiiii:i"),
        done("pending_req_select_v2", "iiiiii:i"),
        done("pending_req_wait", "iii:i"),
        done("pending_req_wait_v2", "iiii:i"),
        unsupported("redirect_to_grip_proxy", "ii:i"),
        unsupported("redirect_to_grip_proxy_v2", "iii:i"),
        unsupported("redirect_to_websocket_proxy", "ii:i"),
        unsupported("redirect_to_websocket_proxy_v2", "iii:i"),
        done("register_dynamic_backend", "iiiiii:i").but(
            "UNSUPPORTED: gRPC (HTTP/2 is spoken where TLS chooses it, and cannot be forced); health checks (probes are \
             of declared backends, without window or threshold); TLS below 1.2; ciphers other than by their names. \
             A certificate's name is always checked. The pool's `max_connections` bounds idle ones of one thread, 32 at \
             most; `http_keepalive_time` is 50 s at most."
        ),
        done("send", "iiiiii:i"),
        done("send_async", "iiiii:i"),
        done("send_async_streaming", "iiiii:i"),
        done("send_async_v2", "iiiiii:i"),
        done("send_v2", "iiiiiii:i"),
        done("send_v3", "iiiiiii:i"),
        unsupported("upgrade_websocket", "ii:i"),
        done("uri_get", "iiii:i"),
        done("uri_set", "iii:i"),
        done("version_get", "ii:i"),
        done("version_set", "ii:i"),
    ]),
    ("fastly_http_resp", &[
        done("close", "i:i"),
        done("framing_headers_mode_set", "ii:i").but(FRAMING),
        done("get_addr_dest_ip", "iii:i"),
        done("get_addr_dest_port", "ii:i"),
        done("header_append", "iiiii:i"),
        done("header_insert", "iiiii:i"),
        done("header_names_get", "iiiiii:i"),
        done("header_remove", "iii:i"),
        done("header_value_get", "iiiiii:i"),
        done("header_values_get", "iiiiiiii:i"),
        done("header_values_set", "iiiii:i"),
        constant("http_keepalive_mode_set", "ii:i").but(
            "Other than automatic: UNSUPPORTED, which SDKs ignore; the front decides when a client's connection ends."
        ),
        done("new", "i:i"),
        done("send_downstream", "iii:i"),
        done("send_downstream_pending", "i:i").but(
            "Returns at once; the response is sent when it is there, also after the program's end."
        ),
        done("status_get", "ii:i"),
        done("status_set", "ii:i"),
        done("version_get", "ii:i"),
        done("version_set", "ii:i"),
    ]),
    ("fastly_image_optimizer", &[
        unsupported("transform_image_optimizer_request", "iiiiiiiii:i"),
    ]),
    ("fastly_kv_store", &[
        done("delete", "iiiiii:i"),
        done("delete_wait", "ii:i"),
        done("insert", "iiiiiii:i"),
        done("insert_wait", "ii:i"),
        done("list", "iiii:i"),
        done("list_wait", "iii:i"),
        done("lookup", "iiiiii:i"),
        done("lookup_wait", "iiiiiii:i"),
        done("lookup_wait_v2", "iiiiiii:i"),
        done("open", "iii:i"),
    ]),
    ("fastly_log", &[
        done("endpoint_get", "iii:i"),
        done("write", "iiii:i"),
    ]),
    ("fastly_object_store", &[
        done("delete_async", "iiii:i"),
        done("insert", "iiii:i"),
        done("insert_async", "iiiii:i"),
        done("lookup", "iiii:i"),
        done("lookup_async", "iiii:i"),
        done("open", "iii:i"),
        done("pending_delete_wait", "i:i"),
        done("pending_insert_wait", "i:i"),
        done("pending_lookup_wait", "ii:i"),
    ]),
    ("fastly_purge", &[
        unsupported("purge_surrogate_key", "iiii:i"),
    ]),
    ("fastly_secret_store", &[
        done("from_bytes", "iii:i"),
        done("get", "iiii:i"),
        done("open", "iii:i"),
        done("plaintext", "iiii:i"),
    ]),
    ("fastly_shielding", &[
        constant("backend_for_shield", "iiiiiii:i"),
        constant("shield_info", "iiiii:i"),
    ]),
    ("fastly_uap", &[
        unsupported("parse", "iiiiiiiiiiiiii:i"),
    ]),
];

/// The module of the names before there were modules.
pub(super) const ALIAS_MODULE: &str = "env";
/// How those names begin.
pub(super) const ALIAS_PREFIX: &str = "xqd_";

/// Those that are known, and the module and name each stands for. Most follow the rule of [`ALIAS_RULE`].
#[rustfmt::skip]
pub(super) const ALIASES: [(&str, &str, &str); 50] = [
    ("xqd_body_append", "fastly_http_body", "append"),
    ("xqd_body_close", "fastly_http_body", "close"),
    ("xqd_body_close_downstream", "fastly_http_body", "close"),
    ("xqd_body_new", "fastly_http_body", "new"),
    ("xqd_body_read", "fastly_http_body", "read"),
    ("xqd_body_write", "fastly_http_body", "write"),
    ("xqd_init", "fastly_abi", "init"),
    ("xqd_log_endpoint_get", "fastly_log", "endpoint_get"),
    ("xqd_log_write", "fastly_log", "write"),
    ("xqd_pending_req_poll", "fastly_http_req", "pending_req_poll"),
    ("xqd_pending_req_select", "fastly_http_req", "pending_req_select"),
    ("xqd_pending_req_wait", "fastly_http_req", "pending_req_wait"),
    ("xqd_req_body_downstream_get", "fastly_http_req", "body_downstream_get"),
    ("xqd_req_cache_override_set", "fastly_http_req", "cache_override_set"),
    ("xqd_req_downstream_client_ip_addr", "fastly_http_req", "downstream_client_ip_addr"),
    ("xqd_req_downstream_client_request_id", "fastly_http_req", "downstream_client_request_id"),
    ("xqd_req_downstream_tls_cipher_openssl_name", "fastly_http_req", "downstream_tls_cipher_openssl_name"),
    ("xqd_req_downstream_tls_client_hello", "fastly_http_req", "downstream_tls_client_hello"),
    ("xqd_req_downstream_tls_protocol", "fastly_http_req", "downstream_tls_protocol"),
    ("xqd_req_header_append", "fastly_http_req", "header_append"),
    ("xqd_req_header_insert", "fastly_http_req", "header_insert"),
    ("xqd_req_header_names_get", "fastly_http_req", "header_names_get"),
    ("xqd_req_header_remove", "fastly_http_req", "header_remove"),
    ("xqd_req_header_value_get", "fastly_http_req", "header_value_get"),
    ("xqd_req_header_values_get", "fastly_http_req", "header_values_get"),
    ("xqd_req_header_values_set", "fastly_http_req", "header_values_set"),
    ("xqd_req_method_get", "fastly_http_req", "method_get"),
    ("xqd_req_method_set", "fastly_http_req", "method_set"),
    ("xqd_req_new", "fastly_http_req", "new"),
    ("xqd_req_original_header_count", "fastly_http_req", "original_header_count"),
    ("xqd_req_original_header_names_get", "fastly_http_req", "original_header_names_get"),
    ("xqd_req_send", "fastly_http_req", "send"),
    ("xqd_req_send_async", "fastly_http_req", "send_async"),
    ("xqd_req_send_async_streaming", "fastly_http_req", "send_async_streaming"),
    ("xqd_req_uri_get", "fastly_http_req", "uri_get"),
    ("xqd_req_uri_set", "fastly_http_req", "uri_set"),
    ("xqd_req_version_get", "fastly_http_req", "version_get"),
    ("xqd_req_version_set", "fastly_http_req", "version_set"),
    ("xqd_resp_header_append", "fastly_http_resp", "header_append"),
    ("xqd_resp_header_insert", "fastly_http_resp", "header_insert"),
    ("xqd_resp_header_names_get", "fastly_http_resp", "header_names_get"),
    ("xqd_resp_header_remove", "fastly_http_resp", "header_remove"),
    ("xqd_resp_header_value_get", "fastly_http_resp", "header_value_get"),
    ("xqd_resp_header_values_get", "fastly_http_resp", "header_values_get"),
    ("xqd_resp_header_values_set", "fastly_http_resp", "header_values_set"),
    ("xqd_resp_new", "fastly_http_resp", "new"),
    ("xqd_resp_status_get", "fastly_http_resp", "status_get"),
    ("xqd_resp_status_set", "fastly_http_resp", "status_set"),
    ("xqd_resp_version_get", "fastly_http_resp", "version_get"),
    ("xqd_resp_version_set", "fastly_http_resp", "version_set"),
];

static ROWS: LazyLock<HashMap<(&str, &str), Function>> =
    LazyLock::new(|| rows().map(|(module, row)| ((module, row.name), row)).collect());

/// Every row.
pub(super) fn rows() -> impl Iterator<Item = (&'static str, Function)> {
    TABLE.iter().flat_map(|(module, functions)| functions.iter().map(move |row| (*module, *row)))
}

/// The row of a function, if it is known.
pub(super) fn row(module: &str, name: &str) -> Option<Function> {
    ROWS.get(&(module, name)).copied()
}

/// What follows [`ALIAS_PREFIX`] in a name that is not listed, and the module it is of.
const ALIAS_RULE: [(&str, &str); 4] = [
    ("req_", "fastly_http_req"),
    ("resp_", "fastly_http_resp"),
    ("body_", "fastly_http_body"),
    ("log_", "fastly_log"),
];

/// The module and name an older name stands for.
pub(super) fn alias(name: &str) -> Option<(&'static str, &'static str)> {
    if let Ok(at) = ALIASES.binary_search_by(|(alias, ..)| (*alias).cmp(name)) {
        return ALIASES.get(at).map(|(_, module, real)| (*module, *real));
    }
    let rest = name.strip_prefix(ALIAS_PREFIX)?;
    let by_rule = |(prefix, module): (&str, &'static str)| Some((module, rest.strip_prefix(prefix)?));
    let (module, real) = ALIAS_RULE.into_iter().find_map(by_rule)?;
    row(module, real).map(|row| (module, row.name))
}

#[cfg(test)]
mod tests {
    use std::{fmt::Write as _, path::PathBuf};

    use super::*;

    fn word(support: Support) -> &'static str {
        match support {
            Support::Done => "done",
            Support::Constant => "constant",
            Support::Unsupported => "unsupported",
        }
    }

    /// The page for readers.
    fn markdown() -> String {
        let count = |support| rows().filter(|(_, row)| row.support == support).count();
        let mut page = format!(
            "# The Fastly Compute interface, function by function\n\n\
             Not affiliated with Fastly. Written from `edge-node/src/guest/fastly/table.rs` by \
             `SKERRY_WRITE_DOCS=1 cargo test --workspace --lib the_page_is_what_the_table_says`; \
             do not edit.\n\n\
             Core modules built for this interface run on a node unchanged. All {} functions of its {} modules \
             link, and so do {} older names of module `env`, others of that \
             module that follow the same rule, and any unknown name of a `fastly_*` module. \
             Done: {}. Constant, that is one fixed answer for what this host has nothing of: {}. Unsupported, that is \
             status 5, for which SDKs have a way on: {}. Tests call every function that is not unsupported, and see \
             every one that is done succeed.\n\n\
             Nothing is cached yet.\n\n\
             | module | function | done / constant / unsupported | note |\n|---|---|---|---|\n",
            rows().count(),
            TABLE.len(),
            ALIASES.len(),
            count(Support::Done),
            count(Support::Constant),
            count(Support::Unsupported),
        );
        for (module, row) in rows() {
            let _ = writeln!(page, "| {module} | {} | {} | {} |", row.name, word(row.support), row.note);
        }
        page += "\n## Older names\n\n| `env` | stands for |\n|---|---|\n";
        for (alias, module, name) in ALIASES {
            let _ = writeln!(page, "| {alias} | {module} {name} |");
        }
        page
    }

    #[test]
    fn the_page_is_what_the_table_says() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/fastly-interface.md");
        if std::env::var_os("SKERRY_WRITE_DOCS").is_some() {
            std::fs::write(&path, markdown()).unwrap();
        }
        let page = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(page == markdown(), "docs/fastly-interface.md is stale: SKERRY_WRITE_DOCS=1 writes it");
    }

    #[test]
    fn every_known_function_has_one_row_in_order() {
        assert_eq!(rows().count(), 255);
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for (module, functions) in TABLE {
            assert!(functions.is_sorted_by(|a, b| a.name < b.name), "{module}");
        }
        assert!(ALIASES.is_sorted_by(|a, b| a.0 < b.0), "they are searched by halving");
        for (alias, module, name) in ALIASES {
            assert!(row(module, name).is_some(), "{alias} stands for {module} {name}");
        }
    }
}
