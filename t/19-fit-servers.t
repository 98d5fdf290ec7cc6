# In front of what people serve: two servers with different settings, realip and the PROXY protocol, HTTP/2, upstreams and
# files, any method, `if` and limit_except, connections that many requests share, and the variables.
use v5.36;
use Test::More;

use Headgate::Edge;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $redis   = $t->redis;
my $html    = $t->dir('html');
my $dir     = $t->dir('nginx');
my $backend = $t->port;
my $second  = $t->port;
my $secure  = $t->port;
my $proxied = $t->port;
my $other   = $t->write_file('other.key', 'fedcba9876543210' x 4 . "\n");
$t->write_file('html/page', "page\n");
my $certificate = $t->certificate('localhost');
my $echo = 'org=$http_x_org key=$http_x_key tier=$http_x_tier auth=$http_authorization rest=$http_x_limit_status';
my $edge = Headgate::Edge->start(
    $t, redis => $redis,
    http => <<~"CONF",
        map \$headgate_plan \$tier          { default none; unlimited gold; free tin; }
        map \$headgate_plan \$tier_volatile { volatile; default none; unlimited gold; free tin; }
        log_format all '\$request_uri|\$headgate_org|\$headgate_key_id|\$headgate_key_prefix|\$headgate_sub|\$headgate_iss|\$headgate_scope|'
            '\$headgate_plan|\$headgate_auth_status|\$headgate_limit_status|\$headgate_limit_remaining|\$headgate_limit_reset|'
            '\$headgate_event_id|\$headgate_shard|\$headgate_redis_time|\$tier_volatile';
        server {
            listen 127.0.0.1:$backend;
            access_log off;
            default_type text/plain;
            location / { return 200 "\$request_method $echo"; }
            location /rates {
                add_header RateLimit '"forged";r=7'; add_header RateLimit-Policy '"forged";q=9;w=1';
                add_header X-RateLimit-Limit 1; add_header x-ratelimit-remaining 2; add_header X-RateLimit-Reset 3;
                return 200 "rates";
            }
        }
        server {
            listen 127.0.0.1:$secure ssl http2;
            ssl_certificate $certificate; ssl_certificate_key $certificate;
            location = /gif { headgate_auth api_key; empty_gif; }
            location = /rates  { headgate_auth api_key; headgate_limit rate=50r/h name=tls; headgate_limit_mode exact; proxy_pass http://127.0.0.1:$backend; }
            location = /events { headgate_auth api_key; headgate_publish event; }
        }
        server {
            listen 127.0.0.1:$second;
            headgate_realm second;
            headgate_jwt_key_file $other alg=HS256 issuer=other org=claim:org scopes=admin;
            headgate_auth jwt;
            headgate_limit rate=5r/h name=second key=\$headgate_org;
            headgate_limit_mode exact;
            root $html;
            location / { try_files /page =404; }
            location /open { headgate_auth off; try_files /page =404; }
        }
        server {
            listen 127.0.0.1:$proxied proxy_protocol;
            set_real_ip_from 127.0.0.1;
            real_ip_header proxy_protocol;
            root $html;
            location = /address { headgate_auth api_key; add_header X-Address \$remote_addr; try_files /page =404; }
            location = /counted { headgate_limit rate=100r/h name=address key=\$binary_remote_addr; headgate_limit_mode exact; try_files /page =404; }
        }
        CONF
    locations => <<~"CONF",
        root $html;
        set_real_ip_from 127.0.0.1;
        set \$early "\$headgate_org";
        location = /address { headgate_auth api_key; add_header X-Address \$remote_addr; try_files /page =404; }
        location = /counted { headgate_limit rate=100r/h name=address key=\$binary_remote_addr; headgate_limit_mode exact; try_files /page =404; }

        location = /upstream {
            headgate_auth jwt api_key;
            proxy_pass http://127.0.0.1:$backend;
            proxy_set_header X-Org \$headgate_org;
            proxy_set_header X-Key \$headgate_key_id;
            proxy_set_header X-Tier \$tier;
            proxy_set_header X-Limit-Status \$headgate_limit_status;
            proxy_set_header Authorization '';
        }
        location = /rates  { headgate_auth api_key; headgate_limit rate=50r/h name=rates; headgate_limit_mode exact; proxy_pass http://127.0.0.1:$backend; }
        location = /gif    { headgate_auth api_key; empty_gif; }
        location = /dir/   { headgate_auth api_key; alias $html/; autoindex on; }
        location = /return { headgate_auth api_key; return 200 "returned\\n"; }
        location = /options {
            headgate_auth api_key;
            if (\$request_method = OPTIONS) { return 204; }
            try_files /page =404;
        }
        location = /except { headgate_auth api_key; limit_except GET { deny all; } try_files /page =404; }
        location = /if {
            headgate_auth api_key;
            headgate_limit rate=100r/h name=if key=\$remote_addr; headgate_limit_mode exact;
            if (\$http_x_a) { add_header X-If yes; }
            if (\$headgate_org) { return 418; }
            add_header X-Early "[\$early]"; add_header X-Late "[\$headgate_org]";
            empty_gif;
        }
        location = /early-map { headgate_auth api_key; if (\$tier = gold) { return 418; } add_header X-Tier "\$tier \$tier_volatile"; try_files /page =404; }
        location = /log { headgate_auth jwt api_key; headgate_limit plan; headgate_limit_mode exact; headgate_publish event; access_log $dir/all.log all; }
        location = /log-page { headgate_auth jwt api_key; access_log $dir/all.log all; try_files /page =404; }
        location = /log-open { access_log $dir/all.log all; try_files /page =404; }
        CONF
);
my $nginx = $edge->nginx;
my $key   = $edge->add_key(scopes => 'events:write x:y');
my $id    = $edge->key_id($key);
my @key   = ('X-API-Key' => $key);
my $token = $edge->token(claims => { org => 'org-token', plan => 'free', sub => 'me' });
my $get   = sub ($target, @headers) { $nginx->get($target, headers => [@headers]) };

# -- two servers ----------------------------------------------------------------------------------------
my $theirs = Headgate::Credentials::jwt('fedcba9876543210' x 4, claims => { iss => 'other', org => 'org-other' });
sub second ($target, @headers) {
    my $http = Headgate::Http->connect(port => $second);
    return $http->request('GET', $target, headers => [@headers]);
}
is second('/', Authorization => "Bearer $theirs")->status, 200, "the second server: its own issuer's token";
my $refused = second('/', Authorization => "Bearer $token");
is_deeply [$refused->status, $refused->header('WWW-Authenticate')], [401, 'Bearer realm="second", error="invalid_token"'], "... and not the first one's";
is $get->('/log-page', Authorization => "Bearer $theirs")->status, 401, '... nor the other way round';
is second('/', 'X-API-Key' => $key)->status, 401, '... no API keys';
is second('/open')->status, 200, '... headgate_auth off';
is second('/', Authorization => "Bearer $theirs")->header('X-RateLimit-Remaining'), 3, '... limited as the server says';
is $get->('/log-page', @key)->header('RateLimit'), undef, '... and not as the other one';

# -- realip ---------------------------------------------------------------------------------------------
my $bound = $edge->add_key(allowed_ips => '203.0.113.7 2001:db8::/32');
for my $case (
    ['198.51.100.1', 403], ['203.0.113.7', 200], ['2001:db8::1', 200], ['2001:db9::1', 403], ['::ffff:203.0.113.7', 200],
    ['203.0.113.7, 198.51.100.1', 403], ['198.51.100.1, 203.0.113.7', 200],
) {
    my ($from, $status) = @$case;
    is $get->('/address', 'X-API-Key' => $bound, 'X-Real-IP' => $from =~ s/.*, //r)->status, $status, "X-Real-IP $from with allowed_ips: $status";
    my $http = Headgate::Http->connect(port => $proxied);
    my $last = $from =~ s/.*, //r;
    my $family = $last =~ /:/ ? 'TCP6' : 'TCP4';
    my $to = $family eq 'TCP6' ? '::1' : '127.0.0.1';
    $http->send_bytes("PROXY $family $last $to 40000 80\r\n" . Headgate::Http->format_request('GET', '/address', headers => ['X-API-Key' => $bound]));
    is $http->read_response->status, $status, "the PROXY protocol says $last: $status";
}
is $get->('/address', 'X-API-Key' => $bound)->status, 403, 'the address of the connection itself is not allowed';
is $get->('/counted', 'X-Real-IP' => '203.0.113.9')->header('X-RateLimit-Remaining'), 99, 'key=$binary_remote_addr: an address';
is $get->('/counted', 'X-Real-IP' => '203.0.113.8')->header('X-RateLimit-Remaining'), 99, '... another';
is $get->('/counted', 'X-Real-IP' => '203.0.113.9')->header('X-RateLimit-Remaining'), 98, '... the first again';
my $http = Headgate::Http->connect(port => $proxied);
$http->send_bytes("PROXY TCP4 203.0.113.8 127.0.0.1 40000 80\r\n" . Headgate::Http->format_request('GET', '/counted'));
is $http->read_response->header('X-RateLimit-Remaining'), 98, '... and by the PROXY protocol';

# -- HTTP/2 ---------------------------------------------------------------------------------------------
# Over TLS: curl 7.88 uses a connection without it for one request only.
my $http2 = "https://127.0.0.1:$secure";
my $curl  = sub (@words) { my $said = `curl -s -S -k --http2 @{[ join ' ', map { quotemeta } @words ]} 2>&1`; $said };
my $h2 = $curl->('-i', '-H', "X-API-Key: $key", "$http2/rates");
like $h2, qr{\AHTTP/2 200 \r\n.*x-ratelimit-remaining: 49\r\n.*\r\n\r\nrates\z}s, 'HTTP/2: proxied and limited' or diag $h2;
like $curl->('-i', "$http2/rates"), qr{\AHTTP/2 401 \r\n.*www-authenticate: Bearer realm="headgate"\r\n}s, 'HTTP/2: refused';
my @each  = map { ('-o', '/dev/null', "$http2/gif") } 1 .. 20;
my $write = ['-w', '%{http_code} %{http_version} %{num_connects};'];
is $curl->('-H', "X-API-Key: $key", @each, @$write), '200 2 1;' . '200 2 0;' x 19, 'HTTP/2: requests that share a connection';
my $parallel = $curl->('--no-progress-meter', '--parallel', '-H', "X-API-Key: $key", @each, @$write);
is +(() = $parallel =~ /200 2 [01];/g), 20, 'HTTP/2: twenty streams at once' or diag $parallel;
my $sent = $curl->('-H', "X-API-Key: $key", '-H', 'Content-Type: application/json', '-d', Headgate::Edge::event_body(), @$write, "$http2/events");
like $sent, qr/"status":"pending".*201 2 1;\z/, 'HTTP/2: an event';

# -- upstreams, files, return ---------------------------------------------------------------------------
is $get->('/upstream', @key, 'X-Org' => 'forged', 'X-Key' => 'forged', X_Org => 'forged')->body,
    "GET org=org-test key=$id tier=gold auth= rest=", 'proxy_pass: identity from us, not from the client';
is $get->('/upstream', Authorization => "Bearer $token")->body, 'GET org=org-token key= tier=tin auth= rest=', '... of a token';
my $rates = $get->('/rates', @key);
my %count;
$count{ lc $_->[0] }++ for $rates->{headers}->@*;
is_deeply [@count{qw(ratelimit ratelimit-policy x-ratelimit-limit x-ratelimit-remaining x-ratelimit-reset)}], [1, 1, 1, 1, 1], "limit headers: one of each";
is_deeply [$rates->header('X-RateLimit-Limit'), $rates->header('X-RateLimit-Remaining')], [50, 49], "... and ours, not the upstream's";
is $rates->header('RateLimit-Policy'), '"hour";q=50;w=3600', '... by name' or diag $rates->header('RateLimit-Policy');
for my $target (qw(/gif /dir/)) {
    is $get->($target)->status, 401, "GET $target without a key";
    is $get->($target, @key)->status, 200, "GET $target with one";
}
is $get->('/return')->body, "returned\n", '`return` answers before any access check, as documented';

# -- methods, if, limit_except -----------------------------------------------------------------------------
for my $method (qw(HEAD GET OPTIONS)) {
    is $nginx->request($method, '/upstream')->status, 401, "$method without a key";
    is $nginx->request($method, '/upstream', headers => [@key])->status, 200, "$method with one";
}
my $head = $nginx->request('HEAD', '/rates', headers => [@key]);
is_deeply [$head->status, $head->header('X-RateLimit-Remaining')], [200, 48], 'HEAD is charged';
is $nginx->request('OPTIONS', '/options')->status, 204, 'OPTIONS is answered before authentication where the location says so';
is $nginx->request('GET', '/options')->status, 401, '... and nothing else is';
is $nginx->request('POST', '/except', headers => [@key], body => 'x')->status, 403, 'limit_except: another method, whoever asks';
is $nginx->request('POST', '/except', body => 'x')->status, 401, '... a stranger is a stranger first';
is $get->('/except', @key)->status, 200, '... and GET';
is $get->('/except')->status, 401, '... not without a key';
for my $header ([], ['X-A' => 1]) {
    my $answer = $get->('/if', @key, @$header);
    is $answer->status, 200, '`if` ($headgate_org) is of the rewrite phase, where nobody is known yet';
    is $answer->header('X-Late'), '[org-test]', '... later it is known' if !@$header;
    is $answer->header('X-Early'), '[]', '... and `set` kept nothing' if !@$header;
    is $answer->header('X-RateLimit-Remaining'), @$header ? 98 : 99, '... limited inside `if` too';
}
is $get->('/early-map', @key)->header('X-Tier'), 'none gold', 'a map that is read before access keeps that, one that is volatile does not';

# -- one connection, many requests -------------------------------------------------------------------------
my $shared = $nginx->connect;
my $say = sub ($target, @headers) { my $a = $shared->request('GET', $target, headers => [@headers]); $a };
is $say->('/upstream', @key)->body, "GET org=org-test key=$id tier=gold auth= rest=", 'one connection: a key';
is $say->('/upstream')->status, 401, '... nothing: the key is not remembered';
is $say->('/upstream', Authorization => "Bearer $token")->body, 'GET org=org-token key= tier=tin auth= rest=', '... a token: nothing of the key';
ok defined $say->('/counted')->header('RateLimit'), '... a limited request';
is $say->('/log-open')->header('RateLimit'), undef, '... its headers are not those of the next';
is $say->('/upstream', 'X-API-Key' => 'hg_wrong')->header('WWW-Authenticate'), 'Bearer realm="headgate", error="invalid_token"', '... a wrong key';
is $say->('/log-open')->header('WWW-Authenticate'), undef, '... its challenge is not that of the next';
$shared->send_bytes(join '', map { Headgate::Http->format_request('GET', '/upstream', headers => [@$_]) } [@key], [], [Authorization => "Bearer $token"], [@key]);
is_deeply [map { $shared->read_response->status } 1 .. 4], [200, 401, 200, 200], '... four at once, each with its own answer';

# -- variables in the log --------------------------------------------------------------------------------------
my $event = $edge->publish(target => '/log?seen', key => $key);
is $event->status, 201, 'an event';
$get->('/log-page?seen', Authorization => "Bearer $token");
$get->('/log-page?seen');
$get->('/log-open?seen', @key);
my @lines;
$t->wait_for('four lines', sub { @lines = map { [split /\|/, $_, -1] } grep { /\?seen/ } split /\n/, $t->read_file('nginx/all.log'); @lines == 4 });
my $event_id = $event->json->{id};
my $prefix   = substr $key, 0, 11;
is_deeply [$lines[0]->@[0 .. 9]], ['/log?seen', 'org-test', $id, $prefix, '-', '-', 'events:write x:y', 'unlimited', 'ok', 'passed'], 'who published';
like join('|', $lines[0]->@[10 .. 15]), qr/\A\d+\|\d+\|\Q$event_id\E\|[0-7]\|\d+\.\d{3}\|gold\z/, '... what is left, and which event';
is_deeply [$lines[1]->@[0 .. 9]], ['/log-page?seen', 'org-token', '-', '-', 'me', 'headgate', 'events:write', 'free', 'ok', '-'], 'a token';
is_deeply [$lines[2]->@[1 .. 15]], ['-', '-', '-', '-', '-', '-', '-', 'missing', ('-') x 6, 'none'], 'a stranger';
is_deeply [$lines[3]->@[1 .. 15]], [('-') x 14, 'none'], 'a location that asks nothing';

$t->done;
