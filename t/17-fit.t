# Beside nginx's own ways to let a request in, turn it round and make others of it: satisfy, auth_request, subrequests,
# internal redirects, error_page. A request is charged once, a subrequest never, and only a principal publishes.
use v5.36;
use MIME::Base64 qw(encode_base64);
use Test::More;

use Headgate::Edge;
use Headgate::Test;

my $t       = Headgate::Test->new;
my $redis   = $t->redis;
my $html    = $t->dir('html');
my $backend = $t->port;
my $users   = $t->write_file('users', "ann:{PLAIN}secret\n");
$t->write_file('html/page',         "page\n");
$t->write_file('html/denied.html',  "denied, says the page\n");
$t->write_file('html/away.html',    "away, says the page\n");
$t->write_file('html/parts.shtml',  qq{[<!--# include virtual="/charged?k=ssi" -->|<!--# include virtual="/events" -->|<!--# include virtual="/status" -->]});

# A limiter of its own for each value of `k`: what is left says how often it was charged.
my $charge = 'headgate_limit rate=100r/h name=once key=$arg_k; headgate_limit_mode exact;';
my $edge = Headgate::Edge->start(
    $t, redis => $redis,
    http => <<~"CONF",
        server {
            listen 127.0.0.1:$backend;
            access_log off;
            location / { default_type text/plain; return 200 "\$request_method \$uri \$content_length"; }
            location /accel  { add_header X-Accel-Redirect /inside/page; return 200 lost; }
            location /named  { add_header X-Accel-Redirect \@named; return 200 lost; }
            location /refuse { add_header WWW-Authenticate 'Custom realm="b"' always; return 401 no; }
        }
        CONF
    locations => <<~"CONF",
        root $html;
        location = /any {
            satisfy any;
            auth_basic staff; auth_basic_user_file $users;
            headgate_auth jwt api_key; headgate_require_scope events:read;
            $charge
            add_header X-Who "\$headgate_key_id/\$headgate_auth_status";
            try_files /page =404;
        }
        location = /any-address { satisfy any; allow 127.0.0.1; deny all; headgate_auth jwt; try_files /page =404; }
        location = /any-three   { satisfy any; auth_basic staff; auth_basic_user_file $users; auth_request /answer-yes; headgate_auth jwt; try_files /page =404; }
        location = /any-nobody  { satisfy any; deny all; headgate_auth jwt; try_files /page =404; }
        location = /all {
            auth_basic staff; auth_basic_user_file $users;
            headgate_auth api_key;
            try_files /page =404;
        }

        location = /asks    { auth_request /answer-yes; headgate_auth api_key; $charge try_files /page =404; }
        location = /asks-no { auth_request /answer-no; headgate_auth api_key; try_files /page =404; }
        location = /answer-yes { internal; headgate_auth api_key; headgate_limit rate=1r/d name=never key=\$uri; try_files /page =404; }
        location = /answer-no  { internal; proxy_pass http://127.0.0.1:$backend/refuse; }

        location = /charged     { $charge try_files /page =404; }
        location = /parts.shtml { ssi on; default_type text/html; }
        location = /around      { $charge add_before_body /before; add_after_body /events; default_type text/html; try_files /page =404; }
        location = /before      { headgate_limit rate=1r/d name=never key=\$uri; try_files /page =404; }
        location = /mirrors     { mirror /events; mirror_request_body on; proxy_pass http://127.0.0.1:$backend/upstream; }
        location = /mirrored    { headgate_auth api_key; mirror /shadow; headgate_publish event; }
        location = /shadow      { internal; proxy_pass http://127.0.0.1:$backend/shadow; access_log $html/../shadow.log combined; log_subrequest on; }

        location /once {
            headgate_auth api_key;
            $charge
            location = /once/try   { try_files /missing /once/end; }
            location = /once/error { error_page 404 = \@named; try_files /missing =404; }
            location = /once/accel { proxy_pass http://127.0.0.1:$backend/accel; }
            location = /once/named { proxy_pass http://127.0.0.1:$backend/named; }
            location = /once/index { rewrite ^ /once/end last; }
            location = /once/end   { add_header X-Org \$headgate_org; try_files /page =404; }
        }
        location \@named  { $charge add_header X-Org \$headgate_org; try_files /page =404; }
        location /inside/ { internal; alias $html/; $charge add_header X-Org \$headgate_org; }

        location /paged {
            error_page 401 403 /denied.html;
            error_page 429 503 = /away.html;
            location = /paged/auth   { headgate_auth api_key; try_files /page =404; }
            location = /paged/scope  { headgate_auth api_key; headgate_require_scope admin; try_files /page =404; }
            location = /paged/limit  { headgate_limit rate=1r/h name=paged key=\$arg_k; headgate_limit_mode exact; headgate_limit_on_error deny; try_files /page =404; }
            location = /paged/login  { headgate_auth api_key; error_page 401 =302 https://login.example/; try_files /page =404; }
        }
        location = /denied.html { internal; }
        location = /away.html   { internal; }
        location = /all-closed  { headgate_auth api_key; error_page 401 /closed-page; try_files /page =404; }
        location = /closed-page { headgate_auth api_key; headgate_realm inner; try_files /page =404; }
        CONF
);
my $nginx  = $edge->nginx;
my $key    = $edge->add_key(scopes => 'events:read events:write');
my $id     = $edge->key_id($key);
my @key    = ('X-API-Key' => $key);
my @basic  = (Authorization => 'Basic ' . encode_base64('ann:secret', ''));
my @wrong  = (Authorization => 'Basic ' . encode_base64('ann:guess', ''));
my $get    = sub ($target, @headers) { $nginx->get($target, headers => [@headers]) };
my $number = 0;
# Once charged, 99 are left.
sub charged ($answer) { my $left = $answer->header('X-RateLimit-Remaining'); defined $left ? 100 - $left : 0 }
sub fresh () { 'k' . ++$number }

# -- satisfy -----------------------------------------------------------------------------------------
for my $case (
    ['a key',                    [@key],           200, "$id/ok"],
    ['a password',               [@basic],         200, '/missing'],
    ['both',                     [@key, @basic],   200, "$id/ok"],
    ['a key and a wrong password', [@key, @wrong], 200, "$id/ok"],
    ['nothing',                  [],               401, undef],
    ['a wrong password',         [@wrong],         401, undef],
    ['a key without the scope and a password', ['X-API-Key' => $edge->add_key(scopes => 'x:y'), @basic], 200, '/insufficient_scope'],
    ['a key that is none and a password', ['X-API-Key' => 'hg_none', @basic], 200, '/bad_key'],
    ['a key without the scope',  ['X-API-Key' => $edge->add_key(scopes => 'x:y')], 401, undef],
) {
    my ($name, $headers, $status, $who) = @$case;
    my $refused = sub { my $r = $edge->status->{requests}{refused}; my $sum = 0; $sum += $_ for values %$r; $sum };
    my $before  = $refused->();
    my $answer  = $get->('/any?k=' . fresh(), @$headers);
    is $answer->status, $status, "satisfy any with $name: $status";
    is $refused->() - $before, $status == 200 ? 0 : 1, '... counted as what it was in the end';
    if ($status == 200) {
        is $answer->header('X-Who'), $who, '... let in by what should';
        is charged($answer), 1, '... and limited like everybody';
        is $answer->header('WWW-Authenticate'), undef, '... without a challenge';
        next;
    }
    my @challenges = map { $_->[1] } grep { lc $_->[0] eq 'www-authenticate' } $answer->{headers}->@*;
    is scalar(grep { /\ABearer / } @challenges), 1, '... one challenge for a bearer';
    is scalar(grep { /\ABasic / } @challenges),  1, '... and one for a password';
}
my $by_address = $get->('/any-address');
is $by_address->status, 200, 'satisfy any: the address lets in';
is $by_address->header('WWW-Authenticate'), undef, '... without a challenge';
# Three checks, two of which write a challenge before the third lets in.
my $three = $get->('/any-three');
is $three->status, 200, 'satisfy any: auth_request lets in, nothing else would';
is $three->header('WWW-Authenticate'), undef, '... without a challenge';
is $get->('/any-nobody')->status, 401, 'satisfy any: neither token nor address';
is $get->('/any-nobody', Authorization => 'Bearer ' . $edge->token)->status, 200, '... the token is enough';
is $get->('/all', @$_[1 .. $#$_])->status, $_->[0], "satisfy all: $_->[0]"
    for [401], [401, @key], [401, @basic], [200, @key, @basic], [401, @key, @wrong];

# -- auth_request --------------------------------------------------------------------------------------
for my $try (1, 2) {
    my $answer = $get->('/asks?k=asks', @key);
    is $answer->status, 200, "auth_request and a key ($try)";
    is charged($answer), $try, '... charged itself';
}
is $get->('/asks?k=asks')->status, 401, '... no key: refused, though auth_request says yes';
is $get->('/asks-no', @key)->status, 401, '... auth_request says no: refused, though there is a key';
is scalar($redis->command('KEYS', 'headgate:limit:{v:never:*')->@*), 0, 'its subrequest is not charged';

# -- subrequests ----------------------------------------------------------------------------------------
my $parts = $get->('/parts.shtml', @key);
is $parts->status, 200, 'a page made of parts';
like $parts->body, qr/\A\[page\n\|.*403.*\|\{"version".*\]\z/s, '... a limited part, one that would publish, the status' or diag $parts->body;
my $around = $get->('/around?k=around', @key);
is charged($around), 1, 'add_before_body: the request is charged';
like $around->body, qr/\Apage\npage\n.*403/s, '... with what stands before and after it';
is scalar($redis->command('KEYS', "headgate:limit:{v:$_}")->@*), 0, "... but not the part ($_)" for qw(once:ssi never:*);
is $redis->event_count, 0, 'subrequests publish nothing';
my $event   = Headgate::Edge::event_body(payload => { mirrored => 'x' x 3000 });
my $mirrors = $edge->publish(key => $key, target => '/mirrors', body => $event);
is $mirrors->body, 'POST /upstream ' . length $event, 'a request that is mirrored to /events is answered by its upstream';
is $redis->event_count, 0, '... and publishes nothing';
my $mirrored = $edge->publish(key => $key, target => '/mirrored', body => $event);
is $mirrored->status, 201, 'an event that is mirrored';
is $redis->event_count, 1, '... is published once';
is $redis->event($mirrored->json->{id})->{payload}, '{"mirrored":"' . 'x' x 3000 . '"}', '... as it came';
$t->wait_for('the mirror', sub { -s $t->path('shadow.log') });

# -- internal redirects ------------------------------------------------------------------------------------
for my $way (qw(try error accel named index)) {
    my $answer = $get->("/once/$way?k=" . (my $k = fresh()), @key);
    is $answer->status, 200, "by way of $way";
    is $answer->body, "page\n", '... to the page';
    # Locations with limiters of their own count for themselves; each limiter counts once.
    my ($policies) = scalar grep { $_->[0] eq 'RateLimit-Policy' } $answer->{headers}->@*;
    ok defined $answer->header('X-RateLimit-Remaining'), '... limited';
    my $bucket = $redis->command('HLEN', "headgate:limit:{v:once:$k}");
    is $bucket, 1, '... under one name' if $way ne 'accel';
    # What shares a bucket is reported once.
    is charged($answer), { named => 2, error => 2 }->{$way} // $policies, '... each limiter has charged once';
    is $answer->header('X-Org'), 'org-test', '... and the principal is known where it ends';
}
is charged($get->('/once/try?k=same', @key)), 1, 'the first by way of try_files';
is charged($get->('/once/try?k=same', @key)), 2, 'the second: one more, not two';

# -- error_page -----------------------------------------------------------------------------------------------
my $denied = $get->('/paged/auth');
is $denied->status, 401, 'error_page 401: the status';
is $denied->body, "denied, says the page\n", '... the page';
like $denied->header('WWW-Authenticate'), qr/\ABearer realm="headgate"\z/, '... and the challenge';
my $scope = $get->('/paged/scope', @key);
is_deeply [$scope->status, $scope->body], [403, "denied, says the page\n"], 'error_page 403';
is $get->('/paged/limit?k=one')->status, 200, 'one of one';
my $limited = $get->('/paged/limit?k=one');
is_deeply [$limited->status, $limited->body], [200, "away, says the page\n"], 'error_page 429 =: another status';
like $limited->header('RateLimit'), qr/r=0/, '... which tells of the limit all the same';
my $login = $get->('/paged/login');
is_deeply [$login->status, $login->header('Location')], [302, 'https://login.example/'], 'error_page 401 =302: to a login page';
my $before = $edge->status->{requests};
my $closed = $get->('/all-closed');
is $closed->status, 401, 'an error_page that is refused itself';
is $closed->header('WWW-Authenticate'), 'Bearer realm="inner"', '... one challenge';
my $after = $edge->status->{requests};
is $after->{refused}{missing} - $before->{refused}{missing}, 1, '... counted once';
$redis->crash;
my $away = $get->('/paged/limit?k=two');
is_deeply [$away->status, $away->body], [200, "away, says the page\n"], 'error_page 503';
$redis->restart;

$t->done;
