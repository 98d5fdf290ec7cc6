# Commands of several requests leave in one writev: 10,000 requests over 64 connections cost at most
# 2,500 writes to Redis.
use v5.36;
use Test::More;

use Headgate::Edge;
use Headgate::Load;
use Headgate::Test;

my $t    = Headgate::Test->new;
my $edge = Headgate::Edge->start($t, redis => $t->redis(appendfsync => 'no'), http => 'keepalive_requests 1000000; access_log off;');

# A token seen before: nothing but the XADD goes to Redis.
my $bytes = Headgate::Http->format_request(
    'POST', '/events', headers => [$edge->headers(token => $edge->token)],
    body => Headgate::Edge::event_body(payload => { data => 'x' x 900 }),
);
Headgate::Load->run(port => $edge->nginx->port, connections => 64, requests => 640, bytes => $bytes);

my $before = $edge->status->{redis};
my $counts = Headgate::Load->run(port => $edge->nginx->port, connections => 64, requests => 10_000, bytes => $bytes);
my $after  = $edge->status->{redis};
is_deeply $counts, { 201 => 10_000 }, 'every request was stored';
my ($writes, $commands) = map { $after->{$_} - $before->{$_} } qw(writes commands);
cmp_ok $commands, '>=', 10_000, 'a command each';
cmp_ok $writes, '<=', 2500, '10,000 requests over 64 connections cost at most 2,500 writes';
diag "10,000 requests: $writes writes, $commands commands";
is $edge->redis->event_count, 10_640, 'and Redis has them all';

$t->done;
