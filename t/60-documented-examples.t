# Every marked example of the README and the quickstart is run as it is written, with only paths and
# ports changed to this test's own.
use v5.36;
use Test::More;

use Headgate::Http;
use Headgate::Test;

my $t     = Headgate::Test->new;
my $root  = $t->root;
my $redis = $t->redis;
$ENV{PATH} = "$root/build:$ENV{PATH}";

# The code of the blocks behind `<!-- test: name -->`, in their order.
sub examples ($file) {
    my $text = $t->read_file("$root/$file");
    my @found;
    push @found, { name => $1, language => $2, code => $3 } while $text =~ /^<!-- test: (\S+) -->\n```(\w+)\n(.*?)^```$/msg;
    return @found;
}

# This test's own places for what the text names.
sub localize ($code, $world) {
    my %ports = ('127.0.0.1:6379' => $redis->port, '127.0.0.1:8787' => $world->{api}, '127.0.0.1:8080' => $world->{nginx}, '127.0.0.1:9000' => $world->{receiver});
    $code =~ s/\Q$_\E\b/127.0.0.1:$ports{$_}/g for keys %ports;
    $code =~ s/listen 8080;/listen 127.0.0.1:$world->{nginx};/g;
    $code =~ s{/etc/headgate}{$world->{dir}}g;
    $code =~ s{/var/lib/headgate}{$world->{dir}}g;
    my $module = $ENV{HEADGATE_MODULE} // "$root/build/ngx_http_headgate_module.so";
    $code =~ s{modules/ngx_http_headgate_module\.so}{$module}g;
    # nginx's built-in paths belong to root.
    my $own_paths = join '', map { "    ${_}_temp_path $world->{dir}/$_;\n" } qw(client_body proxy fastcgi uwsgi scgi);
    $code =~ s/^http \{\n/http {\n    access_log off;\n$own_paths/m if $> != 0 && $code !~ /_temp_path/;
    return $code;
}

# Runs a shell example; what it leaves in the background becomes a process that teardown stops.
sub run_example ($world, $example) {
    my $said = '';
    my $code = localize($example->{code}, $world) =~ s/\\\n\s*/ /gr;
    for my $line (split /^(?! )/m, $code) {
        chomp $line;
        if ($line =~ s/ &\z// || $line =~ /^nginx /) {
            $line .= " -g 'daemon off;'" if $line =~ /^nginx /;
            localize_nginx($world) if $line =~ /^nginx /;
            push $world->{servers}->@*,
                $t->start(name => "$world->{name}-$example->{name}", command => ['bash', '-c', "exec $line"], stop_seconds => 15, $line =~ /^nginx/ ? (stop_signal => 'QUIT') : ());
            next;
        }
        # An assignment is for the lines after it.
        my $variable = $line =~ /\A([A-Z]+)=/ ? $1 : undef;
        $line .= "; printf %s \"\$$variable\"" if $variable;
        # A server that the lines before have started may take its moment.
        my $output;
        $t->wait_for(
            "`$line` to succeed",
            sub {
                $output = `bash -c @{[ quotemeta "set -o pipefail; $line" ]} 2>&1`;
                return $? == 0 && $output !~ /"status": ?(?:401|503)|HTTP\/1.1 (?:401|503)/;
            },
            15
        );
        $variable ? $ENV{$variable} = $output : ($said .= $output);
    }
    return $said;
}

# The nginx.conf that `headgate init` wrote names the port and the module of an installed system.
sub localize_nginx ($world) {
    my $path = "$world->{dir}/nginx.conf";
    $t->write_file($path, localize($t->read_file($path), $world));
}

sub new_world ($name) {
    return { name => $name, dir => $t->path($name), map { $_ => $t->port } qw(api nginx receiver) };
}

# -- quickstart --------------------------------------------------------------------------------
{
    my $world = new_world('quickstart');
    my %run;
    for my $example (examples('docs/quickstart.md')) {
        my $said = $run{ $example->{name} } = run_example($world, $example);
        pass "quickstart: $example->{name}";
        ($ENV{KEY})    = $said =~ /(hg_\w{8}_[\w-]+)/ or die "no API key in: $said" if $example->{name} eq 'init';
        ($ENV{SECRET}) = $said =~ /(whsec_\S+)/       or die "no secret in: $said"  if $example->{name} eq 'webhook';
        if ($example->{name} eq 'publish') {
            ($ENV{EVENT}) = $said =~ /"id": ?"([0-9a-f-]{36})"/ or die "no id in: $said";
            $t->wait_for('the receiver to print the event', sub { $world->{servers}[-1]->log_text =~ /$ENV{EVENT}/ });
            like $world->{servers}[-1]->log_text, qr/verified=yes/, 'quickstart: the delivery is verified';
        }
        like $said, qr/"id": ?"[0-9a-f-]{36}"/, 'quickstart: the token publishes' if $example->{name} eq 'token';
        like $said, qr/"status": ?"delivered"/, 'quickstart: the event is acknowledged' if $example->{name} eq 'inbox';
    }
    is_deeply [sort keys %run], [sort qw(init allow start webhook receive publish token inbox)], 'quickstart: every step was run';

    # -- operations.md, on what the quickstart has left ------------------------------------------------
    ($ENV{WEBHOOK}) = $run{webhook} =~ /([0-9a-f-]{36})/ or die "no webhook in: $run{webhook}";
    my %operations = map { $_->{name} => run_example($world, $_) } examples('docs/operations.md');
    is_deeply [sort keys %operations], [sort qw(explain replay replay-api)], 'operations: the examples';
    like $operations{explain}, qr/\tdelivered\t.*"state":"success"/s, 'operations: explain';
    like $operations{replay}, qr/total: 0.*state: done/s, 'operations: nothing is missing';
    like $operations{'replay-api'}, qr/"verdict":"delivered".*"total":0/s, 'operations: the API';

    # The README's installation takes over this Redis: the quickstart's would write its own pepper there again.
    is_deeply [grep { defined } map { $_->stop } reverse $world->{servers}->@*], [], 'quickstart: every server stops';
}

# -- README ------------------------------------------------------------------------------------
{
    my $world    = new_world('readme');
    my %examples = map { $_->{name} => $_ } examples('README.md');
    is_deeply [sort keys %examples], [sort qw(init nginx.conf publish)], 'README: the examples';
    $redis->command('FLUSHALL');
    like run_example($world, $examples{init}), qr/hg_/, 'README: init';

    my $conf = $t->write_file('readme-nginx.conf', localize($examples{'nginx.conf'}{code}, $world));
    $t->start(
        name => 'readme-nginx', stop_signal => 'QUIT', stop_seconds => 15, log => $t->path('readme-nginx.log'),
        command => ['nginx', '-c', $conf, '-e', $t->path('readme-error.log'), '-g', 'daemon off; pid ' . $t->path('readme.pid') . ';'],
    );
    my @lines = split /^(?! )/m, $examples{publish}{code};
    run_example($world, { name => 'serve', code => $lines[0] });
    my $made = run_example($world, { name => 'key', code => $lines[1] });
    ($ENV{KEY}) = $made =~ /(hg_\w{8}_[\w-]+)/ or die "no API key in: $made";
    like run_example($world, { name => 'publish', code => join '', @lines[2 .. $#lines] }), qr{HTTP/1.1 201 Created}, 'README: publish';
}

# -- conf/ -------------------------------------------------------------------------------------
{
    my $world = new_world('quickstart');
    my $conf  = $t->write_file('minimal.conf', localize($t->read_file("$root/conf/minimal.conf"), $world));
    my $said  = `nginx -t -c $conf -e @{[ $t->path('minimal-error.log') ]} -g 'pid @{[ $t->path('minimal.pid') ]};' 2>&1`;
    is $?, 0, 'conf/minimal.conf is accepted' or diag $said;
}

$t->done;
