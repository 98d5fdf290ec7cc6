/*
 * The floor under every figure of the edge: nginx reads the whole request body and answers with fixed
 * bytes. Whatever a publish costs above this is the edge's own work. The benchmark's webhook receiver
 * uses it too, because `return` would discard bodies instead of reading them.
 *
 *     location = /events { read_and_answer 201 '{"id":…}'; }      answered as application/json
 *     location = /hook   { read_and_answer 204; }
 *
 * Input: any request. Output: the configured answer, once the last byte of the body has been read.
 */
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

typedef struct {
    ngx_uint_t status;
    ngx_str_t body;
} read_and_answer_conf_t;

static void* create_loc_conf(ngx_conf_t* cf);
static char* set_answer(ngx_conf_t* cf, ngx_command_t* cmd, void* conf);
static ngx_int_t handler(ngx_http_request_t* r);
static void answer(ngx_http_request_t* r);

static ngx_command_t commands[] = {
    {ngx_string("read_and_answer"), NGX_HTTP_LOC_CONF | NGX_CONF_TAKE12, set_answer, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL},
    ngx_null_command,
};

static ngx_http_module_t module_ctx = {NULL, NULL, NULL, NULL, NULL, NULL, create_loc_conf, NULL};

ngx_module_t ngx_http_read_and_answer_module = {
    NGX_MODULE_V1, &module_ctx, commands, NGX_HTTP_MODULE,       NULL, NULL, NULL, NULL,
    NULL,          NULL,        NULL,     NGX_MODULE_V1_PADDING,
};

static void* create_loc_conf(ngx_conf_t* cf) { return ngx_pcalloc(cf->pool, sizeof(read_and_answer_conf_t)); }

static char* set_answer(ngx_conf_t* cf, ngx_command_t* cmd, void* conf) {
    read_and_answer_conf_t* answer_conf = conf;
    ngx_str_t* words = cf->args->elts;
    ngx_int_t status = ngx_atoi(words[1].data, words[1].len);
    ngx_http_core_loc_conf_t* core;

    if (status < NGX_HTTP_OK || status > 599) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "%V: \"%V\" is not a status", &cmd->name, &words[1]);
        return NGX_CONF_ERROR;
    }
    answer_conf->status = (ngx_uint_t)status;
    if (cf->args->nelts == 3) {
        answer_conf->body = words[2];
    }
    core = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    core->handler = handler;
    return NGX_CONF_OK;
}

static ngx_int_t handler(ngx_http_request_t* r) {
    ngx_int_t rc = ngx_http_read_client_request_body(r, answer);
    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}

static void answer(ngx_http_request_t* r) {
    read_and_answer_conf_t* conf = ngx_http_get_module_loc_conf(r, ngx_http_read_and_answer_module);
    ngx_chain_t out;
    ngx_int_t rc;

    r->headers_out.status = conf->status;
    r->headers_out.content_length_n = (off_t)conf->body.len;
    if (conf->body.len == 0) {
        r->header_only = 1;
    } else {
        ngx_str_set(&r->headers_out.content_type, "application/json");
        r->headers_out.content_type_len = r->headers_out.content_type.len;
    }
    rc = ngx_http_send_header(r);
    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        ngx_http_finalize_request(r, rc);
        return;
    }
    out.buf = ngx_calloc_buf(r->pool);
    out.next = NULL;
    if (out.buf == NULL) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }
    out.buf->pos = conf->body.data;
    out.buf->last = conf->body.data + conf->body.len;
    out.buf->memory = 1;
    out.buf->last_buf = 1;
    ngx_http_finalize_request(r, ngx_http_output_filter(r, &out));
}
