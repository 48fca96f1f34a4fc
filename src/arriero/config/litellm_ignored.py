"""LiteLLM's keys that have no effect here, and what happens instead.

A file that has them runs, and is told so with the line. The reasons complete the sentence
"`key` has no effect: ...".
"""

from typing import Final


def _told(*groups: tuple[str, str]) -> dict[str, str]:
    return {key: reason for reason, keys in groups for key in keys.split()}


_METRICS = "metrics are at /metrics and the access log is JSON, always; callbacks are not called"
_RATE = "there are no rate limits per deployment, nor are they taken for weights"
_KEYS = "there is one master key, and no database of keys, users and budgets"
_HEALTH = "hosts are judged by their answers; a loaded model that gives none is asked for a token"
_FALLBACK = "a request goes to another host of its own alias, never to another alias"
_SINGLE = "the gateway is one process with its own counters, so nothing is shared"
_CACHE = "answers are not cached"
_POLICY = "parameters are mapped, ignored with a header or refused, each by a documented rule"
_TEXT = "it describes and changes nothing"
_HEADERS = "backends get the gateway's own headers and bodies, without additions"
_MCP = "MCP, agents, guardrails, files and vector stores are not served"
_SECURITY = "the gateway has its own fixed rule for this"
_UI = "there is no web interface"

TOP: Final = _told(
    (_MCP, """
     mcp_servers mcp_tools guardrails agents agent_list vector_store_registry prompts
     policies policy_attachments search_tools sandbox_tools assistant_settings files_settings
     finetune_settings plugins pass_through_endpoints default_vertex_config
     """),
    (_METRICS, "callback_settings"),
    (_SINGLE, "worker_registry"),
    ("the keys of backends stand with each entry", "credential_list"),
)  # fmt: skip

ENTRY: Final = _told(
    (_RATE, """
     rpm tpm itpm otpm default_api_key_rpm_limit default_api_key_tpm_limit
     """),
    ("hosts have no order of preference; `weight` counts for simple-shuffle", "order"),
    (_TEXT, """
     id base_model description db_model created_at created_by updated_at updated_by
     team_id team_public_model_name access_groups tags tag_regex tier discoverable
     litellm_provider output_vector_size
     """),
    ("nothing is billed", "max_budget budget_duration tiered_pricing"),
    (_POLICY, "drop_params additional_drop_params allowed_openai_params"),
    (_HEADERS, "extra_headers headers extra_body organization api_version"),
    ("retries go to another host and are counted by `num_retries`", "max_retries"),
    ("clients cannot choose addresses or keys of backends",
     "configurable_clientside_auth_params use_in_pass_through use_litellm_proxy"),
    ("the keys of backends stand with each entry", "litellm_credential_name"),
    ("reasoning is answered apart from the content", "merge_reasoning_content_in_choices"),
    ("clients ask for thinking, with `reasoning_effort` or `think`", "think reasoning_effort"),
)  # fmt: skip

# In model_info this is a description; in litellm_params it is a default of requests.
MODEL_INFO: Final = ENTRY | _told((_TEXT, "max_tokens"))

ROUTER: Final = _told(
    (_FALLBACK, """
     fallbacks default_fallbacks context_window_fallbacks content_policy_fallbacks
     max_fallbacks fallback_access_check fallback_budget_check
     """),
    (_SINGLE, "redis_url redis_host redis_port redis_password redis_db"),
    (_CACHE, "cache_responses cache_kwargs caching_groups client_ttl"),
    ("`max_input_tokens` counts wherever it is set", "enable_pre_call_checks"),
    ("retries are counted together, whatever the failure",
     "model_group_retry_policy allowed_fails_policy"),
    ("a retry goes to another host at once", "retry_after"),
    ("a failing host is always left out for a while; that is how failover works",
     "disable_cooldowns"),
    (_HEALTH, """
     enable_health_check_routing health_check_staleness_threshold
     health_check_ignore_transient_errors background_health_check_model_groups
     """),
    ("it belongs to a strategy that does not exist here",
     """
     routing_strategy_args routing_groups provider_budget_config optional_pre_call_checks
     enable_weighted_failover deployment_affinity_ttl_seconds model_group_affinity_config
     """),
    ("requests are not routed by tags",
     "enable_tag_filtering tag_filtering_match_any tag_routing_prefix"),
    ("there is no queue of priorities", "default_priority polling_interval"),
    (_RATE, "default_max_parallel_requests"),
    ("use `log.level` of arriero's own vocabulary", "set_verbose debug_level"),
    (_METRICS, "alerting_config"),
    ("a bad entry stops the file, always", "ignore_invalid_deployments"),
    (_MCP, "assistants_config search_tools guardrail_list plugins router_general_settings"),
)  # fmt: skip

GENERAL: Final = _told(
    ("nothing is ever sent home", "telemetry"),
    (_KEYS, """
     database_url database_type database_args database_connection_pool_limit
     database_connection_timeout database_connection_pool_timeout database_connect_timeout
     database_socket_timeout store_model_in_db store_prompts_in_spend_logs
     disable_spend_logs disable_spend_updates disable_error_logs disable_reset_budget
     disable_prisma_schema_update proxy_batch_write_at proxy_budget_rescheduler_min_time
     proxy_budget_rescheduler_max_time maximum_spend_logs_retention_period
     maximum_spend_logs_retention_interval allow_requests_on_db_unavailable custom_auth
     custom_key_generate key_management_system key_management_settings use_google_kms
     use_azure_key_vault enable_jwt_auth litellm_jwtauth enforce_user_param enforced_params
     allow_user_auth user_header_mappings litellm_key_header_name
     disable_master_key_return role_permissions use_redis_transaction_buffer
     infer_model_from_keys default_team_disabled admin_only_routes spend_report_frequency
     """),
    (_UI, "ui_access_mode auto_redirect_ui_login_to_sso custom_sso"),
    (_RATE, """
     max_parallel_requests global_max_parallel_requests token_rate_limit_type
     max_in_flight_requests_per_worker max_queued_requests_per_worker
     admission_queue_timeout_seconds
     """),
    (_HEALTH, """
     background_health_checks health_check_interval health_check_details
     health_check_concurrency enable_health_check_routing use_shared_health_check
     health_check_staleness_threshold model_list_healthy_only
     """),
    ("a client that leaves always cancels its request", "cancel_on_disconnect"),
    ("usage is sent when a client asks for it", "always_include_stream_usage"),
    (_METRICS, "otel alerting alert_types alerting_threshold alerting_args alert_to_webhook_url"),
    (_SECURITY, """
     dangerously_permit_weak_or_unset_master_key allowed_routes public_routes
     use_x_forwarded_for forward_client_headers_to_llm_api forward_openai_org_id
     max_response_size_mb allow_client_side_credentials
     """),
    (_MCP, "pass_through_endpoints completion_model plugins"),
)  # fmt: skip

LITELLM: Final = _told(
    (_METRICS, """
     callbacks success_callback failure_callback service_callback audit_log_callbacks
     json_logs log_raw_request_response turn_off_message_logging redact_user_api_key_info
     prometheus_initialize_budget_metrics prometheus_metrics_config langfuse_default_tags
     custom_prometheus_metadata_labels disable_end_user_cost_tracking
     """),
    (_POLICY, "drop_params modify_params additional_drop_params enable_json_schema_validation"),
    (_FALLBACK, "fallbacks default_fallbacks context_window_fallbacks content_policy_fallbacks"),
    (_CACHE, "cache cache_params"),
    (_RATE, """
     max_budget budget_duration max_internal_user_budget internal_user_budget_duration
     default_max_internal_user_budget
     """),
    (_KEYS, """
     default_internal_user_params default_team_params default_team_settings
     upperbound_key_generate_params key_generation_settings max_user_budget
     default_key_generate_params
     """),
    ("failing hosts are left out by `router_settings.allowed_fails` and `cooldown_time`",
     "allowed_fails cooldown_time"),
    (_TEXT, "model_group_settings model_alias_map public_model_groups"),
    ("this log and banner do not exist here",
     "suppress_debug_info disable_hf_tokenizer_download telemetry"),
    ("use `server.tls` of arriero's own vocabulary, and https:// addresses for backends",
     "ssl_verify ssl_certificate ssl_security_level"),
    (_HEADERS, """
     headers organization forward_traceparent_to_llm_provider aiohttp_trust_env
     disable_aiohttp_transport force_ipv4
     """),
    ("reasoning is answered apart from the content", "merge_reasoning_content_in_choices"),
    ("model lists come from the configuration", "check_provider_endpoint"),
    (_MCP, "guardrails mcp_aliases tag_budget_config post_call_rules"),
)  # fmt: skip

# Keys whose silent loss would leave a smaller or a more open service; what to do instead.
REFUSED: Final = {
    "include": "put all entries into one file; other files are not read",
    "allowed_ips": "let the host's firewall say who may reach the port",
}
