# The module loads into the nginx that Debian ships, exports nothing but what nginx looks for, changes
# nothing while its directives are not used, and `nginx -t` names file and line of what cannot work.
use v5.36;
use Test::More;

use Headgate::Test;

my $t = Headgate::Test->new;

# -- loading without using ---------------------------------------------------------------------
my $html = $t->dir('html');
$t->write_file('html/index.html', "hello\n", 0644);
my $server  = "location / { root $html; } location = /empty { empty_gif; }";
# Configured for everybody, but used by no location: that is not used either.
my $idle    = 'headgate_zone edge:1m; headgate_redis 127.0.0.1:6379; headgate_plan free rate=1r/s;';
my $debug   = sub ($name) { 'error_log ' . $t->dir($name) . '/debug.log debug;' };
my $with    = $t->nginx(server => $server, http => $idle, main => $debug->('nginx'));
my $without = $t->nginx(name => 'plain', module => 0, server => $server, main => $debug->('plain'));

for my $target ('/', '/empty', '/missing') {
    my ($ours, $theirs) = map { $_->get($target) } $with, $without;
    is $ours->status, $theirs->status, "GET $target answers as without the module";
    is $ours->body, $theirs->body, "GET $target has the same body";
    my @names = map { [map { $_->[0] } $_->{headers}->@*] } $ours, $theirs;
    is_deeply $names[0], $names[1], "GET $target has the same headers";
}

# nginx at debug level names each phase handler that it passes, by its number, and each connection and timer.
SKIP: {
    skip 'this nginx is built without --with-debug', 3 if `@{[ $with->executable ]} -V 2>&1` !~ /--with-debug/;
    my ($ours, $theirs) = map { $t->read_file("$_/debug.log") } qw(nginx plain);
    my @phases = map { [$_ =~ /\[debug\] [^:]*: \*?\d* ?((?:\w+ )?phase: \d+)/g] } $ours, $theirs;
    ok @{ $phases[1] } > 10, 'phases were logged';
    is_deeply $phases[0], $phases[1], 'no handler of ours is in any phase';
    is +(() = $ours =~ /\bconnect to /g), 0, 'nor is anything connected to';
}

# -- what the file exports ---------------------------------------------------------------------
my $module  = $with->module_path;
my @symbols = map { (split)[-1] } grep { / [TDBRV] / } `nm -D --defined-only $module`;
my %allowed = map { $_ => 1 } qw(ngx_modules ngx_module_names ngx_module_order ngx_http_headgate_module);
is_deeply [grep { !$allowed{$_} } @symbols], [], 'no other symbol is exported';
ok 3 <= (grep { $allowed{$_} } @symbols), 'and those that nginx looks for are';

# -- nginx -t ----------------------------------------------------------------------------------
my $pepper = $t->write_file('pepper',     'a' x 64 . "\n");
my $secret = $t->write_file('token.key',  'b' x 64 . "\n");
my $loose  = $t->write_file('loose.key',  'c' x 64 . "\n", 0644);
my $short  = $t->write_file('short.key',  "tiny\n");
my $base   = "headgate_zone edge:1m; headgate_redis 127.0.0.1:6379; headgate_api_key_pepper_file $pepper;"
    . " headgate_jwt_key_file $secret alg=HS256; client_max_body_size 2m;";
my $publish = 'location = /e { headgate_auth jwt api_key; headgate_publish event; }';

my @cases = (
    ['a complete configuration', $base, $publish, undef],
    ['authentication by token without a key',
        'headgate_zone edge:1m; headgate_redis 127.0.0.1:6379;', 'location / { headgate_auth jwt; }', qr/headgate_auth/],
    ['authentication by API key without a pepper',
        'headgate_zone edge:1m; headgate_redis 127.0.0.1:6379;', 'location / { headgate_auth api_key; }', qr/headgate_auth/],
    ['authentication without a zone',
        "headgate_redis 127.0.0.1:6379; headgate_jwt_key_file $secret alg=HS256;", 'location / { headgate_auth jwt; }', qr/zone/],
    ['a plan that is not defined', $base, 'location / { headgate_auth jwt; headgate_limit plan default_plan=gold; }', qr/gold/],
    ['a limit by plan where authentication is off', $base, 'location / { headgate_limit plan; }', qr/headgate_limit/],
    ['two windows of one unit', $base, 'location / { headgate_auth jwt; headgate_limit rate=1r/m rate=2r/m; }', qr/rate|window/],
    ['a rate that is none', $base, 'location / { headgate_auth jwt; headgate_limit rate=fast; }', qr/fast/],
    ['an unreadable pepper', $base =~ s/\Q$pepper\E/$pepper.none/r, $publish, qr/pepper\.none/],
    ['a key file that others may read', $base =~ s/\Q$secret\E/$loose/r, $publish, qr/loose\.key/],
    ['a secret shorter than its hash', $base =~ s/\Q$secret\E/$short/r, $publish, qr/short\.key/],
    ["the name of the plans' own buckets", $base, 'location / { headgate_auth jwt; headgate_limit rate=1r/m name=plan; }', qr/plans' own buckets/],
    ['a raw secret without alg', $base =~ s/ alg=HS256//r, $publish, qr/alg/],
    ['an algorithm that a secret cannot serve', $base =~ s/HS256/RS256/r, $publish, qr/raw secret/],
    ['client_max_body_size below the event size', $base =~ s/2m/512k/r, $publish, qr/client_max_body_size/],
    ['an unknown publish form', $base, 'location = /e { headgate_auth jwt; headgate_publish all; }', qr/all/],
    ['publishing without a Redis', $base =~ s/headgate_redis [^;]+;//r, $publish, qr/redis/],
    ['shards out of range', "$base headgate_shards 2000;", $publish, qr/2000/],
    ['an unknown scope form', $base, 'location / { headgate_auth jwt; headgate_require_scope "Not A Scope"; }', qr/scope/i],
);
for my $case (@cases) {
    my ($name, $http, $location, $expected) = @$case;
    my $nginx = $t->nginx(name => 'checked', no_start => 1, http => $http, server => $location);
    my ($code, $said) = $nginx->test_configuration;
    if (!defined $expected) {
        is $code, 0, "nginx -t accepts $name" or diag $said;
        next;
    }
    isnt $code, 0, "nginx -t refuses $name";
    like $said, $expected, "... and says why";
    my $conf = quotemeta $nginx->conf;
    like $said, qr/in $conf:\d+/, '... and where' or diag $said;
}

$t->done;
