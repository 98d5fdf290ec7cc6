# The stages where nginx leaves the straight road: `if` blocks, error_page, named locations, credentials
# meant for others, Expect: 100-continue, a Redis at the end of its memory. Each case once went wrong.
use v5.36;
use Test::More;

use Headgate::Edge;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $redis = $t->redis;
my $html  = $t->dir('html');
$t->write_file('html/limited.html', "limited, says the page\n");
$t->write_file('html/page',         "page\n");
my $edge = Headgate::Edge->start(
    $t, redis => $redis,
    locations => <<~"CONF",
        location = /if {
            headgate_auth api_key;
            headgate_limit plan;
            headgate_publish event;
            if (\$http_x_a) { set \$unused 1; }
        }
        location = /paged {
            headgate_auth api_key;
            headgate_limit rate=1r/h name=first;
            headgate_limit rate=1000r/h name=second;
            error_page 429 /limited.html;
            root $html;
            try_files /page =404;
        }
        location = /limited.html {
            headgate_limit rate=1000r/h name=page key=\$remote_addr;
            root $html;
        }
        location = /key { headgate_auth api_key; root $html; try_files /page =404; }
        location = /first { headgate_auth jwt; root $html; error_page 404 = \@to; try_files /nothing =404; }
        location \@to {
            satisfy any;
            allow all;
            headgate_auth api_key;
            headgate_publish event;
        }
        CONF
);
my $key   = $edge->add_key;
my $token = $edge->token(scope => 'events:write', plan => 'unlimited');

# `if` swaps the location's configuration and keeps its content handler: the checks must come along.
for my $header ([], ['X-A' => 1]) {
    my $name = @$header ? 'inside if' : 'outside if';
    my $send = sub ($method, @more) {
        return $edge->nginx->request($method, '/if', headers => ['X-API-Key' => $key, @$header, @more], body => Headgate::Edge::event_body())->status;
    };
    is $send->('PUT',  'Content-Type' => 'application/json'), 405, "$name: 405";
    is $send->('POST', 'Content-Type' => 'text/plain'),       415, "$name: 415";
    is $send->('POST', 'Content-Type' => 'application/json', 'Content-Encoding' => 'gzip'), 415, "$name: 415 for an encoding";
    is $send->('POST', 'Content-Type' => 'application/json'), 201, "$name: 201";
}

# A limiter that refused must not refuse its own error_page, nor let the other limiters charge it.
my @key = (headers => ['X-API-Key' => $key]);
is $edge->nginx->get('/paged', @key)->status, 200, 'the first of one';
my $limited = $edge->status->{requests}{limited};
my $paged   = $edge->nginx->get('/paged', @key);
is $paged->status, 429, 'over the limit';
is $paged->body, "limited, says the page\n", '... with the page of error_page';
like $paged->header('Retry-After'), qr{\A\d+\z}, '... and one Retry-After';
is $edge->status->{requests}{limited} - $limited, 1, '... counted once';
is scalar($redis->command('KEYS', 'headgate:limit:{v:page:*}')->@*), 0, '... and the page is not charged';

# Basic authentication meant for the upstream hides no key, whichever header comes first.
for my $order (['X-API-Key' => $key, Authorization => 'Basic dTpw'], [Authorization => 'Basic dTpw', 'X-API-Key' => $key]) {
    is $edge->nginx->get('/key', headers => $order)->status, 200, "an API key beside Basic: @$order[0] first";
}

# A principal holds for the location that let it in, not for one reached from there by a redirect.
my $redirected = $edge->nginx->request('POST', '/first', headers => [Authorization => "Bearer $token", 'Content-Type' => 'application/json'], body => Headgate::Edge::event_body());
my $before = $redis->event_count;
is $redirected->status, 500, "another location's principal does not publish";
is $redis->event_count, $before, '... and nothing is stored';

# A refusal does not invite the body.
my $http = $edge->nginx->connect;
my $bytes = Headgate::Http->format_request('POST', '/events', headers => ['Content-Type' => 'application/json', Expect => '100-continue'], body => 'x' x 50);
$http->send_bytes(substr $bytes, 0, 4 + index $bytes, "\r\n\r\n");
my $first = '';
IO::Select->new($http->socket)->can_read(10) and sysread $http->socket, $first, 4096;
like $first, qr/\AHTTP\/1\.1 401 /, 'a refusal before the body: no 100 Continue';

# A flushed script cache makes no invalid body free of charge.
my $poor = $edge->add_key(limits => '2r/h');
$redis->command('SCRIPT', 'FLUSH');
my @bad = map { $edge->publish(target => '/if', key => $poor, body => '{')->status } 1 .. 3;
is_deeply \@bad, [400, 400, 429], 'invalid bodies are charged after SCRIPT FLUSH too';

# Redis at maxmemory stores nothing more, but it still knows its keys: also to workers that start then.
$redis->command('CONFIG', 'SET', 'maxmemory', 1);
is $edge->publish(key => $key)->status, 503, 'Redis is full: 503';
$edge->nginx->reload;
$edge->wait_until_ready;
is $edge->nginx->get('/key', @key)->status, 200, 'keys are looked up all the same, after a reload too';
$redis->command('CONFIG', 'SET', 'maxmemory', 0);
$t->wait_for('publishing to work again', sub { $edge->publish(key => $key)->status == 201 });
pass 'and 201 when there is room again';

$t->done;
